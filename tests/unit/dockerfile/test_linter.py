"""Each published check, by a Dockerfile that it finds something in and one that it does not."""

import pytest

from wherry.common.ignore import PatternMatcher
from wherry.dockerfile.lexer import DockerfileError
from wherry.dockerfile.linter import RULES, Checks, Finding, checks_of, lint
from wherry.dockerfile.parser import parse


def find(text: str, ignore: str = "", **given: str) -> list[Finding]:
    file = parse(text)
    checks = Checks(experimental=frozenset(("all",)))
    ignored = PatternMatcher.parse(ignore.encode())
    return lint(file, text, checks, given=given, ignored=ignored, environment_of=lambda image: ["HOME"])


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        ("StageNameCasing", "FROM a AS Base\n", "FROM a AS base\n"),
        ("FromAsCasing", "FROM a as base\n", "from a as base\n"),
        ("NoEmptyContinuation", "FROM a\nRUN x \\\n\n  y\n", "FROM a\nRUN x \\\n  # no\n  y\n"),
        ("ConsistentInstructionCasing", "FROM a\nrun x\nRUN y\n", "from a\nrun x\n"),
        ("DuplicateStageName", "FROM a AS b\nFROM c AS b\n", "FROM a AS b\nFROM c AS d\n"),
        ("ReservedStageName", "FROM a AS scratch\n", "FROM a AS scratched\n"),
        ("JSONArgsRecommended", "FROM a\nCMD run\n", 'FROM a\nCMD ["run"]\n'),
        ("JSONArgsRecommended", "FROM a\nENTRYPOINT run\n", 'FROM a\nSHELL ["/bin/bash", "-c"]\nENTRYPOINT run\n'),
        ("MaintainerDeprecated", "FROM a\nMAINTAINER me\n", "FROM a\nLABEL author=me\n"),
        ("UndefinedArgInFrom", "FROM a:$TAG\n", "ARG TAG=1\nFROM a:$TAG\n"),
        ("WorkdirRelativePath", "FROM a\nWORKDIR app\n", "FROM a\nWORKDIR /app\nWORKDIR in\n"),
        ("UndefinedVar", "FROM a\nENV B=$A\n", "FROM a\nARG A\nENV B=$A C=${X:-y} D=$HOME E=$PATH F=\\$Z\n"),
        ("UndefinedVar", "FROM a\nCOPY $SRC /\n", "FROM a AS b\nENV SRC=x\nFROM b\nCOPY $SRC /\n"),
        ("MultipleInstructionsDisallowed", 'FROM a\nCMD ["x"]\nCMD ["y"]\n', 'FROM a\nCMD ["x"]\nFROM a\nCMD ["y"]\n'),
        ("LegacyKeyValueFormat", "FROM a\nENV A b\n", "FROM a\nENV A=b\n"),
        ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM a\n", "FROM --platform=$BUILDPLATFORM a\n"),
        ("SecretsUsedInArgOrEnv", "FROM a\nARG AWS_SECRET_ACCESS_KEY\n", "FROM a\nENV PUBLIC_KEY=x KEYBOARD=y\n"),
        ("SecretsUsedInArgOrEnv", "FROM a\nENV DB_PASSWORD=x\n", "FROM a\nENV SECRET_FILE=/x MONKEY=1\n"),
        ("InvalidDefaultArgInFrom", "ARG TAG\nFROM a:$TAG\n", "ARG TAG=latest\nFROM a:${TAG}\n"),
        (
            "FromPlatformFlagConstDisallowed",
            "FROM --platform=linux/arm64 a\n",
            "FROM --platform=$BUILDPLATFORM a\n",
        ),
        ("CopyIgnoredFile", "FROM a\nCOPY left /\n", "FROM a\nCOPY kept /\nCOPY --from=b left /\n"),
        ("InvalidDefinitionDescription", "# what it is\nFROM a AS b\n", "# b what it is\nFROM a AS b\n"),
        ("ExposeProtoCasing", "FROM a\nEXPOSE 80/TCP\n", "FROM a\nEXPOSE 80/tcp\n"),
        ("ExposeInvalidFormat", "FROM a\nEXPOSE 127.0.0.1:80:80\n", "FROM a\nEXPOSE 8000-8010\n"),
    ],
)
def test_a_rule(rule: str, bad: str, good: str) -> None:
    assert rule in [each.rule for each in find(bad, "left")]
    assert rule not in [each.rule for each in find(good, "left")]


def test_every_rule_has_an_example() -> None:
    marks = [mark for mark in test_a_rule.pytestmark if mark.name == "parametrize"]
    assert {case[0] for case in marks[0].args[1]} == set(RULES)


def test_what_a_finding_says() -> None:
    [found] = find("FROM a\n\nENV B=${UNDEFINED_ONE}\n")
    assert found.short == "UndefinedVar: The variable '$UNDEFINED_ONE' is not defined (line 3)"
    assert found.url == "https://docs.docker.com/go/dockerfile/rule/undefined-var/"
    [other] = find("FROM a\nCMD x\n")
    assert other.url.endswith("/json-args-recommended/")


def test_the_name_that_may_be_meant() -> None:
    [found] = find("FROM a\nARG VERSION\nENV B=$VERSOIN\n")
    assert found.detail.endswith("(did you mean $VERSION?)")


def test_variables_of_an_image_that_is_not_here_are_nobodys_business() -> None:
    text = "FROM a\nENV B=$A\n"
    assert lint(parse(text), text, Checks()) == []


def test_checks_of_a_file() -> None:
    text = "# check=skip=JSONArgsRecommended,StageNameCasing;error=true\nFROM a AS B\nCMD x\nMAINTAINER me\n"
    checks = checks_of(parse(text))
    assert checks.error
    assert [each.rule for each in lint(parse(text), text, checks)] == ["MaintainerDeprecated"]
    assert lint(parse(text), text, checks_of(parse(text), "skip=all")) == []
    with pytest.raises(DockerfileError, match="invalid check option"):
        checks_of(parse("# check=everything\nFROM a\n"))
    with pytest.raises(DockerfileError, match="expected true or false"):
        Checks.parse("error=perhaps")
