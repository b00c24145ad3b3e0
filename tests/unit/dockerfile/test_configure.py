"""What instructions do to a configuration, by Docker's rules; commit --change on top of them."""

import msgspec
import pytest
from msgspec import UNSET

from wherry.dockerfile.config import (
    apply_changes,
    configure,
    expand_instruction,
    join_directory,
    set_variables,
    sets_command,
)
from wherry.dockerfile.instructions import Copy
from wherry.dockerfile.lexer import DockerfileError
from wherry.dockerfile.parser import parse
from wherry.model.container import ContainerConfig, HealthConfig


def after(config: ContainerConfig, *lines: str) -> ContainerConfig:
    """The configuration after the lines of a stage based on it."""
    command_set = False
    for instruction in parse("\n".join(("FROM base", *lines))).instructions[1:]:
        config = configure(config, instruction, command_set=command_set)
        command_set = command_set or sets_command(instruction)
    return config


def test_nothing_is_changed_in_place() -> None:
    config = ContainerConfig(
        env=["a=1"], labels={"a": "b"}, volumes={"/a": {}}, exposed_ports={"1/tcp": {}}, on_build=["RUN a"]
    )
    before = msgspec.json.encode(config)
    after(config, "ENV a=2 b=3", "LABEL c=d", "VOLUME /b", "EXPOSE 2", "ONBUILD RUN b", "CMD a", "WORKDIR /x")
    assert msgspec.json.encode(config) == before


def test_env_replaces_in_place_and_appends() -> None:
    assert after(ContainerConfig(env=["a=1", "b=2"]), "ENV c=3 a=4 c=5").env == ["a=4", "b=2", "c=5"]
    assert after(ContainerConfig(), "ENV a x y").env == ["a=x y"]
    assert set_variables(["a=1", "a=2"], [("a", "3")]) == ["a=3", "a=2"]
    assert set_variables(["a"], [("a", "")]) == ["a="]


@pytest.mark.parametrize(
    ("lines", "entrypoint", "cmd"),
    [
        (['CMD ["a"]'], None, ["a"]),
        (["CMD a b"], None, ["/bin/sh", "-c", "a b"]),
        (["CMD []"], None, []),
        (['ENTRYPOINT ["e"]'], ["e"], None),
        (["ENTRYPOINT e f"], ["/bin/sh", "-c", "e f"], None),
        (['CMD ["a"]', 'ENTRYPOINT ["e"]'], ["e"], ["a"]),
        (['ENTRYPOINT ["e"]', 'CMD ["a"]'], ["e"], ["a"]),
        (["CMD []", 'ENTRYPOINT ["e"]'], ["e"], None),
        (["ENTRYPOINT []"], None, None),
        (['SHELL ["/bin/bash", "-c"]', "CMD a", "ENTRYPOINT e"], ["/bin/bash", "-c", "e"], ["/bin/bash", "-c", "a"]),
    ],
)
def test_command_and_entrypoint(lines: list[str], entrypoint: list[str] | None, cmd: list[str] | None) -> None:
    config = after(ContainerConfig(cmd=["base"]), *lines)
    assert (config.entrypoint, config.cmd) == (entrypoint, cmd)


def test_an_entrypoint_of_the_base_image_stays_with_a_new_command() -> None:
    config = after(ContainerConfig(entrypoint=["e"], cmd=["base"]), 'CMD ["a"]')
    assert (config.entrypoint, config.cmd) == (["e"], ["a"])


@pytest.mark.parametrize(
    ("current", "requested", "expected"),
    [
        ("", "a", "/a"),
        ("", ".", "/"),
        ("/", "a", "/a"),
        ("/a", "b", "/a/b"),
        ("/a", "b/", "/a/b"),
        ("/a", "/b//c/./d/../", "/b/c"),
        ("/a", "..", "/"),
        ("/a", "../../..", "/"),
        ("/a", "//b", "/b"),
        ("a", "b", "/a/b"),
    ],
)
def test_directories_are_joined(current: str, requested: str, expected: str) -> None:
    assert join_directory(current, requested) == expected
    assert after(ContainerConfig(working_dir=current), f"WORKDIR {requested}").working_dir == expected


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ("80", ["80/tcp"]),
        ("80/udp 80", ["80/tcp", "80/udp"]),
        ("53/UDP", ["53/udp"]),
        ("8000-8002", ["8000/tcp", "8001/tcp", "8002/tcp"]),
        ("127.0.0.1:9:90-91/sctp", ["90/sctp", "91/sctp"]),
        ("7-7", ["7/tcp"]),
        ("80/", ["80/tcp"]),
        ("0", ["0/tcp"]),
    ],
)
def test_ports_are_spelled_out(ports: str, expected: list[str]) -> None:
    if ports.startswith("127"):
        ports = ports.replace("9:", "9-10:")
    config = after(ContainerConfig(exposed_ports={"1/tcp": {}}), f"EXPOSE {ports}")
    assert config.exposed_ports is not UNSET
    assert list(config.exposed_ports) == ["1/tcp", *expected]


def test_the_others() -> None:
    config = after(
        ContainerConfig(labels={"a": "1"}, volumes={"/v": {}}, on_build=["RUN a"]),
        "LABEL a=2 b=3",
        'VOLUME ["/w x"]',
        "USER app",
        "STOPSIGNAL SIGINT",
        "ONBUILD COPY . /src",
        "HEALTHCHECK --interval=5s --retries=2 CMD check",
        "MAINTAINER nobody",
        "ARG x=1",
        "RUN true",
    )
    assert config.labels == {"a": "2", "b": "3"}
    assert config.volumes == {"/v": {}, "/w x": {}}
    assert config.user == "app"
    assert config.stop_signal == "SIGINT"
    assert config.on_build == ["RUN a", "COPY . /src"]
    assert config.healthcheck == HealthConfig(test=["CMD-SHELL", "check"], interval=5_000_000_000, retries=2)
    assert after(config, "HEALTHCHECK NONE").healthcheck == HealthConfig(test=["NONE"])


def test_variables_are_replaced_before() -> None:
    variables = {"port": "80 443/udp", "dir": "/x y", "v": "1", "empty": ""}
    text = "FROM a\nEXPOSE $port\nVOLUME $dir\nLABEL k$v=$v\nUSER u$v\nSTOPSIGNAL $v\nCMD $v\nENV a='$v' b=$v\n"
    config = ContainerConfig()
    for instruction in parse(text).instructions[1:]:
        config = configure(config, expand_instruction(instruction, variables))
    assert config.exposed_ports == {"80/tcp": {}, "443/udp": {}}
    assert config.volumes == {"/x y": {}}
    assert config.labels == {"k1": "1"}
    assert (config.user, config.stop_signal) == ("u1", "1")
    assert config.cmd == ["/bin/sh", "-c", "$v"]
    assert config.env == ["a=$v", "b=1"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("WORKDIR $empty", "WORKDIR has an empty path"),
        ("VOLUME $empty", "VOLUME specified can not be an empty string"),
        ("ENV $empty=1", "ENV names can not be blank"),
        ("EXPOSE $word", "invalid containerPort: word"),
        ("STOPSIGNAL $word", "invalid signal: word"),
        ("USER ${none:?}", "none: is not allowed to be unset"),
    ],
)
def test_what_only_shows_with_the_values_names_the_place(line: str, reason: str) -> None:
    (_, instruction) = parse(f"FROM a\n{line}\n").instructions
    with pytest.raises(DockerfileError, match=reason) as caught:
        configure(ContainerConfig(), expand_instruction(instruction, {"empty": "", "word": "word"}))
    assert (caught.value.line, caught.value.text) == (2, line)


def test_copies_and_heredocs_are_expanded() -> None:
    text = 'FROM a\nCOPY --chown=$u --from=b $s <<x <<"y" /$d\n$u "q" \\$u\nx\n$u\ny\n'
    (_, copy) = parse(text).instructions
    expanded = expand_instruction(copy, {"u": "1", "s": "src", "d": "dst"})
    assert isinstance(expanded, Copy)
    assert (expanded.sources[0], expanded.destination, expanded.chown) == ("src", "/dst", "1")
    assert [heredoc.content for heredoc in expanded.heredocs] == ['1 "q" $u\n', "$u\n"]


def test_changes() -> None:
    config = ContainerConfig(env=["PATH=/bin"], cmd=["sh"], entrypoint=["e"], working_dir="/srv")
    changed = apply_changes(config, ["ENV A=$PATH:/x", 'LABEL a="b c"', "WORKDIR app", "EXPOSE 80", "cmd echo hi"])
    assert changed.env == ["PATH=/bin", "A=/bin:/x"]
    assert changed.labels == {"a": "b c"}
    assert changed.working_dir == "/srv/app"
    assert changed.exposed_ports == {"80/tcp": {}}
    assert changed.cmd == ["/bin/sh", "-c", "echo hi"]
    assert changed.entrypoint == ["e"]
    assert config.env == ["PATH=/bin"]


def test_a_change_sees_those_before_it() -> None:
    assert apply_changes(ContainerConfig(), ["ENV A=1", "ENV B=$A"]).env == ["A=1", "B=1"]


def test_changes_may_be_lines_of_one_text() -> None:
    changed = apply_changes(ContainerConfig(), ["USER a\nWORKDIR /b", "STOPSIGNAL 9"])
    assert (changed.user, changed.working_dir, changed.stop_signal) == ("a", "/b", "9")


def test_an_entrypoint_drops_the_command_as_in_docker() -> None:
    config = ContainerConfig(cmd=["sh"])
    assert apply_changes(config, ['ENTRYPOINT ["e"]']).cmd is None
    assert apply_changes(config, ['CMD ["c"]', 'ENTRYPOINT ["e"]']).cmd == ["c"]


def test_no_change_is_no_change() -> None:
    config = ContainerConfig(user="a")
    assert apply_changes(config, []) is config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", "file with no instructions"),
        ("RUN true", "RUN is not a valid change command"),
        ("from a", "from is not a valid change command"),
        ("COPY a b", "COPY is not a valid change command"),
        ("SHELL []", "SHELL is not a valid change command"),
        ("ARG a", "ARG is not a valid change command"),
        ("FOO=bar", "FOO=bar is not a valid change command"),
        ("USER", "USER requires exactly one argument"),
        ("ENV A=${B?no}", 'failed to process "${B?no}": B: no'),
        ("VOLUME $nothing", "VOLUME specified can not be an empty string"),
    ],
)
def test_wrong_changes(change: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        apply_changes(ContainerConfig(), [change])
    assert caught.value.message == message
    assert caught.value.text == change
