"""What can be asked of a Dockerfile without building it, by docker buildx and by wherry."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[[str], subprocess.CompletedProcess[str]]

DOCKERFILE = """\
# syntax=docker/dockerfile:1
ARG VERSION=1
# base is what the rest begins with
FROM busybox AS base
MAINTAINER me
FROM base
# WHO is who made it
ARG WHO=me
RUN --mount=type=secret,id=key,required=true --mount=type=cache,id=c,target=/c --mount=type=ssh true
CMD run $WHO
"""


@pytest.fixture
def context(tmp_path: Path, busybox: str) -> Path:
    made = tmp_path / "context"
    made.mkdir()
    (made / "Dockerfile").write_text(DOCKERFILE)
    return made


@pytest.fixture(params=["buildx", "wherry"])
def ask(request: pytest.FixtureRequest, wherry: Run, context: Path) -> Ask:
    if request.param == "wherry":
        return lambda what: wherry("build", f"--call={what}", str(context))
    docker: Run = request.getfixturevalue("docker")
    configured: dict[str, str] = request.getfixturevalue("configured")
    experimental = {**configured, "BUILDX_EXPERIMENTAL": "1"}
    return lambda what: docker(
        "buildx", "build", f"--print={what.replace('check', 'lint')}", str(context), env=experimental
    )


def test_checks(ask: Ask) -> None:
    text = ask("check").stdout
    assert "WARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/" in text
    assert "WARNING: JSONArgsRecommended" in text
    assert "CMD run $WHO" in text


def test_targets(ask: Ask) -> None:
    lines = ask("targets").stdout.splitlines()
    assert [line.split(maxsplit=1) for line in lines if line] == [
        ["TARGET", "DESCRIPTION"],
        ["base", "is what the rest begins with"],
        ["(default)"],
    ]


def test_what_a_target_takes(ask: Ask) -> None:
    text = ask("outline").stdout
    assert [line.split() for line in text.splitlines() if line][:7] == [
        ["BUILD", "ARG", "VALUE", "DESCRIPTION"],
        ["VERSION", "1"],
        ["WHO", "me", "is", "who", "made", "it"],
        ["SECRET", "REQUIRED"],
        ["key", "true"],
        ["SSH", "REQUIRED"],
        ["default"],
    ]


def test_json(wherry: Run, context: Path, ask: Ask) -> None:
    assert json.loads(ask("outline,format=json").stdout)["cache"][0]["ID"] == "c"
    found = json.loads(wherry("build", "--call=check,format=json", str(context)).stdout)
    assert [each["ruleName"] for each in found["warnings"]] == ["MaintainerDeprecated", "JSONArgsRecommended"]
    assert found["warnings"][0]["location"]["ranges"][0]["start"]["line"] == 5


def test_the_code_says_whether_there_is_anything(wherry: Run, context: Path) -> None:
    checked = wherry("build", "--check", str(context))
    assert checked.returncode == 1
    assert checked.stdout.startswith("Check complete, 2 warnings have been found!\n")
    (context / "Dockerfile").write_text("FROM busybox\n")
    checked = wherry("build", "--check", str(context))
    assert (checked.returncode, checked.stdout) == (0, "Check complete, no warnings found.\n")
    (context / "Dockerfile").write_text("FROM busybox\nFORM x\n")
    checked = wherry("build", "--check", str(context))
    assert checked.returncode == 1
    assert "unknown instruction: FORM" in checked.stdout
    failed = wherry("build", "--call=everything", str(context))
    assert 'invalid value "everything" for --call' in failed.stderr


def test_a_build_warns(buildx: Run, wherry: Run, context: Path) -> None:
    shown = buildx("build", "--progress", "plain", "--target", "base", str(context), check=True).stderr
    assert "MaintainerDeprecated: MAINTAINER is deprecated: use LABEL (line 5)" in shown
    shown = wherry("build", "--progress", "plain", "--target", "base", str(context), check=True).stderr
    assert "WARNING: MaintainerDeprecated: MAINTAINER is deprecated: use LABEL (line 5)" in shown


def test_a_file_can_make_them_errors(buildx: Run, wherry: Run, context: Path) -> None:
    text = (context / "Dockerfile").read_text()
    (context / "Dockerfile").write_text(text.replace("ARG VERSION=1", "# check=error=true\nARG VERSION=1"))
    for failed in (buildx("build", str(context)), wherry("build", str(context))):
        assert failed.returncode != 0
        assert "lint violation found for rules: JSONArgsRecommended, MaintainerDeprecated" in failed.stderr
