"""Every instruction in every form, and what is said of those that are wrong."""

import pytest

from wherry.dockerfile import instructions as ins
from wherry.dockerfile.lexer import DockerfileError, DockerfileSyntaxError, Position
from wherry.dockerfile.parser import parse, parse_trigger

SECOND = 1_000_000_000


def one(line: str) -> ins.Instruction:
    """The instruction that a line is, put behind a FROM."""
    return parse(f"FROM debian\n{line}\n").instructions[1]


def shell(text: str) -> ins.CommandLine:
    return ins.CommandLine((text,), shell=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("FROM debian", ins.From(image="debian")),
        ("from debian:12", ins.From(image="debian:12")),
        ("FROM debian AS Build", ins.From(image="debian", name="build")),
        ("FROM  debian\tas  build-1.x_y ", ins.From(image="debian", name="build-1.x_y")),
        ("FROM --platform=$BUILDPLATFORM debian AS b", ins.From(image="debian", name="b", platform="$BUILDPLATFORM")),
        ("FROM scratch", ins.From(image="scratch")),
        ("FROM a/b@sha256:00", ins.From(image="a/b@sha256:00")),
        ("FROM ${BASE:-debian}", ins.From(image="${BASE:-debian}")),
        ("ARG a", ins.Arg(declarations=(ins.Declaration("a"),))),
        ("ARG a=", ins.Arg(declarations=(ins.Declaration("a", ""),))),
        (
            'ARG a=1 b c="x y"',
            ins.Arg(declarations=(ins.Declaration("a", "1"), ins.Declaration("b"), ins.Declaration("c", '"x y"'))),
        ),
        ("RUN echo  a  b", ins.Run(command=shell("echo  a  b"))),
        ('RUN ["echo", "a b"]', ins.Run(command=ins.CommandLine(("echo", "a b")))),
        ("RUN ['echo', 'a']", ins.Run(command=shell("['echo', 'a']"))),
        ('RUN ["echo", "a"', ins.Run(command=shell('["echo", "a"'))),
        ('RUN [ "$x" = y ]', ins.Run(command=shell('[ "$x" = y ]'))),
        ("RUN [NaN]", ins.Run(command=shell("[NaN]"))),
        ("RUN --network=none a", ins.Run(command=shell("a"), network="none")),
        ("RUN --network=host --security=insecure a", ins.Run(command=shell("a"), network="host", security="insecure")),
        ("RUN -- --a", ins.Run(command=shell("--a"))),
        ("CMD a b", ins.Cmd(command=shell("a b"))),
        ('CMD ["a", "b"]', ins.Cmd(command=ins.CommandLine(("a", "b")))),
        ("CMD []", ins.Cmd(command=ins.CommandLine(()))),
        ("CMD", ins.Cmd(command=ins.CommandLine((), shell=True))),
        ('CMD ["\\u00e9\\ud800"]', ins.Cmd(command=ins.CommandLine(("é\ufffd",)))),
        ("ENTRYPOINT a b", ins.Entrypoint(command=shell("a b"))),
        ('ENTRYPOINT ["a", "b"]', ins.Entrypoint(command=ins.CommandLine(("a", "b")))),
        ("ENTRYPOINT []", ins.Entrypoint(command=ins.CommandLine(()))),
        ("ENV a=1 b=2", ins.Env(pairs=(ins.Pair("a", "1"), ins.Pair("b", "2")))),
        ("ENV a=b\\ c d='e f'", ins.Env(pairs=(ins.Pair("a", "b\\ c"), ins.Pair("d", "'e f'")))),
        ("ENV a b  c=d", ins.Env(pairs=(ins.Pair("a", "b  c=d", legacy=True),))),
        ("ENV a=", ins.Env(pairs=(ins.Pair("a", ""),))),
        ('LABEL "com.x"="y z" v=1', ins.Label(pairs=(ins.Pair('"com.x"', '"y z"'), ins.Pair("v", "1")))),
        ("LABEL a some text", ins.Label(pairs=(ins.Pair("a", "some text", legacy=True),))),
        ("EXPOSE 80", ins.Expose(ports=("80",))),
        ("EXPOSE 8000-8010/tcp 53/udp $PORT 1/SCTP", ins.Expose(ports=("$PORT", "1/SCTP", "53/udp", "8000-8010/tcp"))),
        ("EXPOSE 127.0.0.1:80:8080 [::1]:5:5", ins.Expose(ports=("127.0.0.1:80:8080", "[::1]:5:5"))),
        ("VOLUME /a /b", ins.Volume(paths=("/a", "/b"))),
        ('VOLUME ["/a b", "/c"]', ins.Volume(paths=("/a b", "/c"))),
        ("USER app:app", ins.User(user="app:app")),
        ("WORKDIR /a b", ins.Workdir(path="/a b")),
        ('SHELL ["/bin/bash", "-o", "pipefail", "-c"]', ins.Shell(arguments=("/bin/bash", "-o", "pipefail", "-c"))),
        ("STOPSIGNAL SIGTERM", ins.StopSignal(signal="SIGTERM")),
        ("STOPSIGNAL 9", ins.StopSignal(signal="9")),
        ("STOPSIGNAL rtmin+3", ins.StopSignal(signal="rtmin+3")),
        ("STOPSIGNAL ${SIG}", ins.StopSignal(signal="${SIG}")),
        ("HEALTHCHECK NONE", ins.HealthCheck(test=("NONE",))),
        ("HEALTHCHECK CMD curl -f x || exit 1", ins.HealthCheck(test=("CMD-SHELL", "curl -f x || exit 1"))),
        ('HEALTHCHECK cmd ["curl", "x"]', ins.HealthCheck(test=("CMD", "curl", "x"))),
        (
            "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=500ms --start-interval=2h --retries=3 CMD a",
            ins.HealthCheck(
                test=("CMD-SHELL", "a"),
                interval=90 * SECOND,
                timeout=3 * SECOND // 2,
                start_period=SECOND // 2,
                start_interval=7200 * SECOND,
                retries=3,
            ),
        ),
        ("HEALTHCHECK --interval=0 CMD a", ins.HealthCheck(test=("CMD-SHELL", "a"))),
        ("MAINTAINER A B <a@b>", ins.Maintainer(maintainer="A B <a@b>")),
        ("ONBUILD RUN make", ins.OnBuild(text="RUN make", trigger=ins.Run(command=shell("make")))),
        ("onbuild copy --from=x a b", ins.OnBuild(text="copy --from=x a b", trigger=one("COPY --from=x a b"))),
        ("COPY a b /c/", ins.Copy(sources=("a", "b"), destination="/c/")),
        ('COPY ["a b", "c d"]', ins.Copy(sources=("a b",), destination="c d")),
        (
            "COPY --from=build --chown=1:2 --chmod=755 --link --parents --exclude=*.o --exclude='a b' x y",
            ins.Copy(
                sources=("x",),
                destination="y",
                source_stage="build",
                chown="1:2",
                chmod="755",
                link=True,
                parents=True,
                exclude=("*.o", "a b"),
            ),
        ),
        ("COPY --link=false a b", ins.Copy(sources=("a",), destination="b")),
        ("ADD https://x/y.tar /", ins.Add(sources=("https://x/y.tar",), destination="/")),
        (
            "ADD --checksum=sha256:00 --keep-git-dir=true --unpack=false --chown=a --chmod=u+x --link --exclude=b c d",
            ins.Add(
                sources=("c",),
                destination="d",
                checksum="sha256:00",
                keep_git_dir=True,
                unpack=False,
                chown="a",
                chmod="u+x",
                link=True,
                exclude=("b",),
            ),
        ),
    ],
)
def test_instructions(line: str, expected: ins.Instruction) -> None:
    assert one(line) == expected


def test_the_trigger_of_onbuild_is_read_too() -> None:
    assert isinstance(found := one("ONBUILD COPY --from=x a b"), ins.OnBuild)
    assert found.trigger == ins.Copy(sources=("a",), destination="b", source_stage="x")
    assert found.expression == "COPY --from=x a b"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("FORM debian", r"unknown instruction: FORM \(did you mean FROM\?\)"),
        ("coppy a b", r"unknown instruction: coppy \(did you mean COPY\?\)"),
        ("XYZZY a", "unknown instruction: XYZZY\n"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "expected FROM IMAGE or FROM IMAGE AS NAME"),
        ("FROM a AS 1b", 'invalid name for build stage: "1b"'),
        ("FROM --platfrom=x a", r"unknown flag: --platfrom \(did you mean --platform\?\)"),
        ("RUN", "RUN requires at least one argument"),
        ("RUN [1]", "arrays must be comprised of strings only"),
        ('RUN ["a", ["b"]]', "arrays must be comprised of strings only"),
        ("RUN --foo a", "unknown flag: --foo"),
        ("RUN --network=nat a", 'invalid network mode "nat"'),
        ("RUN --network=none --network=none a", "duplicate flag specified: --network"),
        ("RUN --network a", "missing a value on flag: --network"),
        ("RUN --security=yes a", 'security "yes" is not valid'),
        ("RUN --mount=type=volume,target=/a a", 'unsupported mount type "volume"'),
        ("COPY a", "COPY requires at least two arguments"),
        ("COPY", "COPY requires at least two arguments"),
        ("COPY --link=maybe a b", "expecting boolean value for flag --link, not: maybe"),
        ("COPY --link= a b", "missing a value on flag: --link"),
        ("COPY a <<EOF\nEOF", "COPY cannot accept a heredoc as a destination"),
        ("COPY << EOF /a\nEOF", "a << that is no source of its own"),
        ('COPY ["<<EOF", "/a"]', "a << that is no source of its own"),
        ("ADD a", "ADD requires at least two arguments"),
        ("CMD [1, 2]", "strings only"),
        ("CMD --x a", "unknown flag: --x: this instruction takes no flags"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV a=b c", 'can\'t find = in "c"'),
        ("ENV =b", "ENV names can not be blank"),
        ("ENV a='b", "a quote is not closed"),
        ("LABEL a", "LABEL must have two arguments"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =b", "ARG names can not be blank"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("EXPOSE http", "invalid containerPort: http"),
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        ("EXPOSE 20-10", "invalid containerPort: 20-10"),
        ("EXPOSE 80/tpc", "invalid proto: tpc"),
        ("EXPOSE /tcp", "no port specified"),
        ("EXPOSE a:80:80", "invalid IP address: a"),
        ("EXPOSE 1-3:80-81", "invalid ranges specified"),
        ("EXPOSE x:80", "invalid hostPort: x"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ('VOLUME [" "]', "VOLUME specified can not be an empty string"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("STOPSIGNAL SIGTREM", r"invalid signal: SIGTREM \(did you mean SIGTERM\?\)"),
        ("STOPSIGNAL 0", "invalid signal: 0"),
        ("STOPSIGNAL 99", "invalid signal: 99"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("SHELL", "SHELL requires at least one argument"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("SHELL /bin/bash -c", "SHELL requires the arguments to be in JSON form"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE a", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK TEST a", 'Unknown type "TEST" in HEALTHCHECK'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK CMD []", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=5 CMD a", 'missing unit in duration "5" for --interval'),
        ("HEALTHCHECK --interval=. CMD a", "invalid duration"),
        ("HEALTHCHECK --interval=1us CMD a", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --timeout=-5s CMD a", 'Interval "timeout" cannot be less than 1ms'),
        ("HEALTHCHECK --interval=99999999999h CMD a", "invalid duration"),
        ("HEALTHCHECK --retries=x CMD a", "invalid value x for --retries"),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries cannot be negative"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN a", "Chaining ONBUILD"),
        ("ONBUILD FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD MAINTAINER a", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("ONBUILD FOO", "unknown instruction: FOO"),
    ],
)
def test_what_is_wrong_is_said(line: str, reason: str) -> None:
    with pytest.raises(DockerfileSyntaxError, match=reason) as caught:
        parse(f"FROM debian\n# comment\n{line}\nRUN last\n", "Dockerfile")
    error = caught.value
    assert error.status == 400
    assert (error.file, error.line) == ("Dockerfile", 3)
    assert error.text.split("\n")[0] == line.split("\n")[0]


def test_an_error_shows_the_place() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse("FROM debian\n\nRUN --netwrok=none \\\n    true\n", "build/Dockerfile")
    assert caught.value.message == (
        "dockerfile parse error on line 3: unknown flag: --netwrok (did you mean --network?)\n"
        "build/Dockerfile:3:\n"
        "  3 | RUN --netwrok=none \\\n"
        "  4 |     true"
    )


def test_a_long_instruction_is_shown_by_its_beginning() -> None:
    body = "".join(f"line {number}\n" for number in range(100))
    with pytest.raises(DockerfileError) as caught:
        parse(f"FROM a\nRUN --x <<EOF\n{body}EOF\n")
    assert caught.value.message.endswith("  6 | line 3\n  7 | line 4\n    | …")


def test_what_is_no_text_does_not_reach_a_terminal() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse("FROM a\n\x1b[2J\x00" + "long" * 1000)
    first, _, line = caught.value.message.split("\n")
    assert first.endswith("unknown instruction: \ufffd[2J\ufffd" + "long" * 8 + "lon…")
    assert line == "  2 | \ufffd[2J\ufffd" + "long" * 48 + "lon…"


def test_an_instruction_knows_its_lines() -> None:
    second = parse("FROM a\nRUN b \\\n  c\nUSER d\n").instructions[1]
    assert second.position == Position("Dockerfile", 2, 3, "RUN b \\\n  c", "RUN b   c")


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("RUN a\nRUN b", "onbuild trigger should be a single expression"),
        ("", "onbuild trigger should be a single expression"),
        ("FOO", "unknown instruction: FOO"),
    ],
)
def test_a_wrong_trigger_is_put_down_to_the_from(expression: str, reason: str) -> None:
    position = Position("Dockerfile", 7, 7, "FROM base")
    with pytest.raises(DockerfileError, match=reason) as caught:
        parse_trigger(expression, position)
    assert caught.value.message.endswith("Dockerfile:7:\n  7 | FROM base")


def test_a_trigger_may_have_a_heredoc() -> None:
    (_, on_build) = parse("FROM a\nONBUILD RUN <<EOF\nx\nEOF\n").instructions
    assert isinstance(on_build, ins.OnBuild)
    assert on_build.expression == "RUN <<EOF\nx\nEOF"
    trigger = parse_trigger(on_build.expression, on_build.position)
    assert isinstance(trigger, ins.Run)
    assert trigger.heredocs[0].content == "x\n"


def test_deeply_nested_json_is_a_shell_command() -> None:
    assert isinstance(found := one("RUN " + "[" * 100_000), ins.Run)
    assert found.command.shell
