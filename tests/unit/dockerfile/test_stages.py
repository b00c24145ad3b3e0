"""The graph of stages: names, numbers, what is needed, and what cannot be."""

import pytest

from wherry.dockerfile.instructions import Arg, Copy, Run
from wherry.dockerfile.lexer import DockerfileError
from wherry.dockerfile.parser import parse
from wherry.dockerfile.stages import Graph, Platform, build_graph, unused_arguments


def graph(text: str, target: str = "", platform: str = "linux/amd64", **given: str) -> Graph:
    return build_graph(parse(text), target=target, given=given, platform=Platform.parse(platform))


def labels(found: Graph) -> list[str]:
    return [stage.label for stage in found.needed()]


MANY = """\
FROM debian AS base
FROM base AS tools
FROM golang AS Build
COPY --from=tools /x /x
FROM node AS assets
FROM base AS test
COPY --from=BUILD /a /a
FROM scratch
COPY --from=build /a /a
COPY --from=3 /b /b
RUN --mount=type=bind,from=nginx:1,target=/n true
"""


@pytest.mark.parametrize(
    ("target", "needed"),
    [
        ("", ["base", "tools", "build", "assets", "stage-5"]),
        ("test", ["base", "tools", "build", "test"]),
        ("TEST", ["base", "tools", "build", "test"]),
        ("assets", ["assets"]),
        ("2", ["base", "tools", "build"]),
        ("0", ["base"]),
    ],
)
def test_only_what_the_target_needs(target: str, needed: list[str]) -> None:
    assert labels(graph(MANY, target)) == needed


def test_images_are_those_of_needed_stages() -> None:
    assert [image.image for image in graph(MANY).images()] == ["debian", "golang", "node", "nginx:1"]
    assert [image.image for image in graph(MANY, "test").images()] == ["debian", "golang"]


def test_a_stage_knows_where_its_files_come_from() -> None:
    last = graph(MANY).stages[5]
    assert {name: (source.stage, source.image) for name, source in last.sources.items()} == {
        "build": (2, "build"),
        "3": (3, "3"),
        "nginx:1": (None, "nginx:1"),
    }
    assert (last.base.stage, last.base.image, last.name) == (None, "scratch", "")
    assert last.dependencies() == [(2, last.sources["build"].position), (3, last.sources["3"].position)]


def test_a_later_stage_of_the_same_name_hides_the_earlier() -> None:
    found = graph("FROM a AS x\nFROM x AS x\nFROM b\nCOPY --from=x / /\n", "2")
    assert found.stages[1].base.stage == 0
    assert found.stages[2].sources["x"].stage == 1


def test_a_stage_may_have_the_name_of_its_image() -> None:
    assert graph("FROM debian AS debian\n").stages[0].base.stage is None


@pytest.mark.parametrize(
    ("text", "target", "reason", "line"),
    [
        ("FROM a AS build\n", "biuld", r'target stage "biuld" could not be found \(did you mean build\?\)', 0),
        ("FROM a AS build\nFROM b\n", "xyz", 'target stage "xyz" could not be found: the stages are build, stage-1', 0),
        ("FROM a\n", "1", 'target stage "1" could not be found', 0),
        ("FROM a AS x\nCOPY --from=x / /\n", "", "circular dependency detected on stage: x", 2),
        ("FROM a\nCOPY --from=0 / /\n", "", "invalid from flag value 0: refers to current build stage", 2),
        ("FROM a\nFROM b\nCOPY --from=7 / /\n", "", "invalid from flag value 7: index out of bounds: there is one", 3),
        ("FROM a AS x\nCOPY --from=y / /\nFROM b AS y\n", "", 'cannot copy from stage "y", it needs to be defined', 2),
        (
            "FROM a AS x\nRUN --mount=from=y,target=/y true\nFROM b AS y\n",
            "",
            'stage "y", it needs to be defined before current stage "x"',
            2,
        ),
        ("FROM a\nCOPY --from=$x / /\n", "", "variable expansion is not supported for --from", 2),
        ("ARG x\nFROM $x\n", "", r"base name \(\$x\) should not be blank", 2),
        ("FROM ${x:?set-x}\n", "", "x: set-x", 1),
        ("FROM --platform=$x a\n", "", r"empty platform value from expression \$x", 1),
        ("FROM --platform=linux/ a\n", "", '"" is an invalid component of "linux/"', 1),
        ("FROM --platform=a/b/c/d a\n", "", "cannot parse platform specifier", 1),
        ("RUN true\nFROM a\n", "", "no build stage in current context: expected FROM before RUN", 1),
        ("ARG x=1\n", "", "dockerfile contains no stages to build", 0),
        ("ARG x=${y:?none}\nFROM a\n", "", "y: none", 1),
        (
            "FROM a AS x\nONBUILD COPY --from=nothere / /\nFROM x\nFROM c AS nothere\n",
            "",
            'stage "nothere", it needs',
            3,
        ),
    ],
)
def test_what_cannot_be(text: str, target: str, reason: str, line: int) -> None:
    with pytest.raises(DockerfileError, match=reason) as caught:
        graph(text, target)
    assert caught.value.line == line


def test_arguments_of_froms() -> None:
    text = (
        "ARG BASE=debian\nARG TAG=${BASE}-1\nARG NONE\nFROM $BASE:$TAG${NONE}\n"
        "FROM --platform=$BUILDPLATFORM ${TAG%-1}\nFROM image-$TARGETARCH-$TARGETSTAGE AS final\n"
    )
    plain = graph(text, platform="linux/arm64")
    assert [stage.base.image for stage in plain.stages] == ["debian:debian-1", "debian", "image-arm64-final"]
    assert plain.stages[1].platform == Platform()
    assert plain.stages[0].platform is None
    assert graph(text, BASE="alpine", NONE="x").stages[0].base.image == "alpine:alpine-1x"


def test_platform_arguments() -> None:
    values = graph("FROM a\n", platform="linux/arm/v7").arguments.shared
    assert values == {
        "BUILDPLATFORM": "linux/amd64",
        "BUILDOS": "linux",
        "BUILDOSVERSION": "",
        "BUILDARCH": "amd64",
        "BUILDVARIANT": "",
        "TARGETPLATFORM": "linux/arm/v7",
        "TARGETOS": "linux",
        "TARGETOSVERSION": "",
        "TARGETARCH": "arm",
        "TARGETVARIANT": "v7",
        "TARGETSTAGE": "default",
    }
    assert graph("FROM a\n", TARGETARCH="mine").arguments.shared["TARGETARCH"] == "mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("armel", "linux/arm/v6"),
        ("linux", "linux/s390x"),
        ("windows", "windows/s390x"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("i386", "linux/386"),
    ],
)
def test_platforms(text: str, expected: str) -> None:
    assert str(Platform.parse(text, "s390x")) == expected


def _arguments(text: str, environment: list[str], **given: str) -> tuple[dict[str, str], list[str]]:
    found = graph(text, **given)
    arguments = found.arguments
    for instruction in found.target.instructions:
        if isinstance(instruction, Arg):
            arguments = arguments.declare(instruction, environment)
    return arguments.variables(environment), arguments.run_environment(environment)


def test_arguments_of_a_stage() -> None:
    text = "ARG shared=1\nARG over=2\nFROM a\nARG shared\nARG over=3 mine=$shared-$given\nARG given=4\nARG late none\n"
    variables, environment = _arguments(text, ["PATH=/bin"], given="5", late="6", http_proxy="p", undeclared="7")
    assert variables == {
        "PATH": "/bin",
        "HTTP_PROXY": "p",
        "http_proxy": "p",
        "shared": "1",
        "over": "3",
        "mine": "1-",
        "given": "5",
        "late": "6",
    }
    assert environment == [
        "PATH=/bin", "HTTP_PROXY=p", "given=5", "http_proxy=p", "late=6", "mine=1-", "over=3", "shared=1",
    ]  # fmt: skip


def test_of_arguments_and_environment_the_later_one_counts() -> None:
    variables, environment = _arguments("FROM a\nARG x=1\nARG y=$x\nARG x none\n", ["x=env"])
    assert variables == {"x": "1", "y": "1"}
    assert environment == ["x=1", "y=1"]
    arguments = graph("FROM a\nARG x=1\n").arguments
    (arg,) = graph("FROM a\nARG x=1\n").target.instructions
    assert isinstance(arg, Arg)
    after = arguments.declare(arg, ["x=old"]).after_env(["x"])
    assert after.variables(["x=new"]) == {"x": "new"}
    assert after.run_environment(["x=new"]) == ["x=new"]
    assert after.own == ("x",) and not after.inherited().own


def test_an_argument_without_a_value_leaves_the_environment() -> None:
    assert _arguments("FROM a\nARG x\n", ["x=env"]) == ({"x": "env"}, ["x=env"])


def test_global_arguments_are_not_in_a_stage_by_themselves() -> None:
    assert _arguments("ARG x=1\nFROM a\n", [], x="2") == ({}, [])


def test_names_of_arguments_are_words_like_others() -> None:
    assert _arguments('ARG "x"=1\nFROM a\nARG "x" $name=2\n', ["name=y"])[0] == {"name": "y", "x": "1", "y": "2"}


def test_arguments_with_an_error_name_the_place() -> None:
    found = graph("FROM a\nARG x=${y?no-y}\n")
    arg = found.target.instructions[0]
    assert isinstance(arg, Arg)
    with pytest.raises(DockerfileError, match="y: no-y") as caught:
        found.arguments.declare(arg, [])
    assert caught.value.line == 2
    given = graph("FROM a\nARG x=${y?no-y}\n", x="1").arguments
    assert given.declare(arg, []).values() == {"x": "1"}


def test_arguments_of_triggers_are_used() -> None:
    found = graph("FROM a AS b\nONBUILD ARG c\nFROM b\n", c="", d="", e="")
    assert found.unused == ("d", "e") and found.trigger(0, ["ARG d"]).unused == ("e",)


def test_unused_arguments() -> None:
    text = "ARG a\nFROM x AS one\nARG b=1\nFROM y\nARG c\n"
    assert graph(text, a="", b="", c="", d="", TARGETOS="", HTTP_PROXY="").unused == ("d",)
    assert unused_arguments(["b", "a", "SOURCE_DATE_EPOCH", "BUILDKIT_INLINE_CACHE"], ["b"]) == ["a"]


def test_triggers_of_a_base_stage_come_first() -> None:
    text = "FROM x AS files\nFROM a AS base\nONBUILD COPY --from=files /a /b\nONBUILD RUN make\nFROM base\nRUN last\n"
    found = graph(text)
    kinds = [type(instruction) for instruction in found.target.instructions]
    assert kinds == [Copy, Run, Run]
    assert labels(found) == ["files", "base", "stage-2"]
    assert found.target.instructions[0].position.line == 5


def test_triggers_of_an_image_are_put_in() -> None:
    found = graph("FROM x AS files\nFROM node AS app\nRUN a\n")
    assert labels(found) == ["app"]
    changed = found.trigger(1, ["COPY --from=files /a /b", "RUN b"])
    assert labels(changed) == ["files", "app"]
    assert len(changed.target.instructions) == 3
    assert changed.target.position.line == 2
    assert found.trigger(1, []) is found
    with pytest.raises(DockerfileError, match="ONBUILD FOO"):
        found.trigger(1, ["FOO"])


def test_a_name_that_may_have_been_meant() -> None:
    found = graph("FROM x AS builder\nFROM y\nCOPY --from=biulder / /\n")
    assert found.images()[1].image == "biulder"
    assert found.near("biulder") == " (did you mean builder?)"
