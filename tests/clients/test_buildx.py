"""docker build, buildx and bake, unmodified, on wherry."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.builds import git_server
from tests.support.engine import Engine, docker_cli

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def context(tmp_path: Path, engine: Engine, busybox: str) -> Iterator[Path]:
    made = tmp_path / "context"
    made.mkdir()
    (made / "Dockerfile").write_text("FROM busybox AS base\nRUN echo one >/one\nFROM base\nCOPY f* /files/\n")
    (made / "file").write_text("content\n")
    yield made
    for name in ("built:x", "two:x"):
        engine.wherry("rmi", "--force", name)
    engine.wherry("image", "prune", "--force")
    engine.wherry("builder", "prune", "--all", "--force")


def test_build_and_run(buildx: Run, context: Path, engine: Engine) -> None:
    shown = buildx("build", "--progress", "plain", "-t", "built:x", str(context), check=True).stderr
    assert "[base 2/2] RUN echo one >/one" in shown
    assert "[stage-1 2/2] COPY f* /files/" in shown
    assert "naming to docker.io/library/built:x done" in shown
    assert engine.wherry("run", "--rm", "built:x", "cat", "/one", "/files/file").stdout == "one\ncontent\n"
    [made] = engine.request("GET", "/v1.54/images/built:x/json").body["Identity"]["Build"]
    again = buildx("build", "--progress", "plain", str(context), check=True).stderr
    assert again.count("CACHED") == 2
    builds = engine.request("GET", "/v1.54/images/built:x/json").body["Identity"]["Build"]
    assert len(builds) == 2 and made in builds, "each build that came to this image is told"


def test_the_line_that_fails_is_shown(buildx: Run, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\n\nRUN echo said && exit 3\n")
    failed = buildx("build", "--progress", "plain", str(context))
    assert failed.returncode == 1
    assert "said" in failed.stderr
    assert "   3 | >>> RUN echo said && exit 3" in failed.stderr
    assert 'process "/bin/sh -c echo said && exit 3" did not complete successfully: exit code: 3' in failed.stderr
    (context / "Dockerfile").write_text("FROM busybox\nFORM x\n")
    failed = buildx("build", str(context))
    assert "   2 | >>> FORM x" in failed.stderr
    assert "dockerfile parse error on line 2: unknown instruction: FORM" in failed.stderr


def test_flags(buildx: Run, context: Path, tmp_path: Path, engine: Engine) -> None:
    (context / "Dockerfile").write_text(
        "FROM busybox AS early\nARG WHO\nRUN --mount=type=secret,id=key cat /run/secrets/key >/key; echo $WHO >/who\n"
        "FROM early\nCOPY --from=other f /other\nRUN exit 1\nFROM other-image\n"
    )
    (tmp_path / "key").write_text("k")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "f").write_text("from elsewhere")
    buildx(
        "build", "-t", "built:x", "--target", "early", "--build-arg", "WHO=me", "--label", "a=b",
        "--secret", f"id=key,src={tmp_path / 'key'}", "--metadata-file", str(tmp_path / "metadata"),
        "--iidfile", str(tmp_path / "iid"), str(context), check=True,
    )  # fmt: skip
    image = engine.request("GET", "/images/built:x/json").body
    assert image["Config"]["Labels"] == {"a": "b"}
    assert json.loads((tmp_path / "metadata").read_text())["containerimage.digest"] == image["Id"]
    assert (tmp_path / "iid").read_text() == image["Id"]
    assert engine.wherry("run", "--rm", "built:x", "cat", "/key", "/who").stdout == "kme\n"
    (context / "Dockerfile").write_text("FROM third\nCOPY --from=other f /other\n")
    contexts = ("--build-context", f"other={tmp_path / 'other'}", "--build-context", "third=docker-image://busybox")
    buildx("build", *contexts, "-o", str(tmp_path / "out"), str(context), check=True)
    assert (tmp_path / "out" / "other").read_text() == "from elsewhere"
    assert (tmp_path / "out" / "bin" / "sh").exists()


def test_the_context_is_filtered(buildx: Run, context: Path, tmp_path: Path) -> None:
    (context / "left").write_text("x")
    (context / "f-left").write_text("x")
    (context / ".dockerignore").write_text("*left\n")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    buildx("build", "-o", str(tmp_path / "out"), str(context), check=True)
    assert sorted(os.listdir(tmp_path / "out")) == [".dockerignore", "Dockerfile", "file"]


def test_bake(buildx: Run, context: Path, engine: Engine) -> None:
    (context / "docker-bake.hcl").write_text(
        'group "default" { targets = ["one", "two"] }\n'
        'target "one" {\n  tags = ["built:x"]\n}\n'
        'target "two" {\n  contexts = { lower = "target:one" }\n'
        '  dockerfile-inline = "FROM lower\\nRUN cp /one /two"\n  tags = ["two:x"]\n}\n'
    )
    buildx("buildx", "bake", cwd=context, check=True)
    assert engine.wherry("run", "--rm", "two:x", "cat", "/two").stdout == "one\n"


def test_a_tar_on_standard_input_is_the_context(
    configured: dict[str, str], context: Path, tmp_path: Path, engine: Engine
) -> None:
    environment = {**os.environ, **configured, "DOCKER_HOST": engine.host}
    tar = subprocess.run(["tar", "--create", "--gzip", "."], cwd=context, check=True, stdout=subprocess.PIPE).stdout
    build = [docker_cli(), "build", "-o", str(tmp_path / "out"), "-"]
    done = subprocess.run(build, env=environment, input=tar, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "files" / "file").read_text() == "content\n"


def test_a_dockerfile_that_is_a_link(buildx: Run, context: Path, tmp_path: Path) -> None:
    (context / "real").mkdir()
    (context / "Dockerfile").rename(context / "real" / "Dockerfile.base")
    (context / "linked").symlink_to("real")
    (context / "Dockerfile").symlink_to("linked/Dockerfile.base")
    buildx("build", "-o", str(tmp_path / "out"), str(context), check=True)
    assert (tmp_path / "out" / "files" / "file").exists()
    (context / "Dockerfile").unlink()
    (context / "Dockerfile").symlink_to("Dockerfile")
    assert buildx("build", str(context)).returncode == 1


def test_a_dockerfile_for_a_context_with_an_address(buildx: Run, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY served /\n")
    with git_server(tmp_path / "git", {"served": "by git"}) as (address, _):
        out = tmp_path / "out"
        buildx("build", "-f", str(context / "Dockerfile"), "-o", str(out), f"{address}#main", check=True)
    assert os.listdir(out) == ["served"]


def test_bake_by_address(buildx: Run, tmp_path: Path) -> None:
    """Where it is a repository, that is the context, too."""
    bake = f'target "default" {{ output = ["type=local,dest={tmp_path}/out"] }}\n'
    files = {"docker-bake.hcl": bake, "Dockerfile": "FROM scratch\nCOPY served /\n", "served": "by git"}
    with git_server(tmp_path / "git", files) as (address, _):
        done = buildx("buildx", "bake", f"{address}#main", env={"BUILDX_BAKE_ENTITLEMENTS_FS": "0"})
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "served").read_text() == "by git"


def test_bake_with_contexts_of_several_platforms(buildx: Run, context: Path, tmp_path: Path) -> None:
    (context / "docker-bake.hcl").write_text(
        f"""
        target "default" {{
          platforms = ["linux/amd64", "linux/arm64"]
          contexts = {{ lower = "target:lower" }}
          dockerfile-inline = "FROM lower\\nCOPY file /\\n"
          output = ["type=local,dest={tmp_path}/out"]
        }}
        target "lower" {{
          platforms = ["linux/amd64", "linux/arm64"]
          dockerfile-inline = "FROM scratch\\nARG TARGETARCH\\nCOPY file /$TARGETARCH\\n"
        }}
        """
    )
    done = buildx("buildx", "bake", cwd=context, env={"BUILDX_BAKE_ENTITLEMENTS_FS": "0"})
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "out" / "linux_arm64")) == ["arm64", "file"]
    assert sorted(os.listdir(tmp_path / "out" / "linux_amd64")) == ["amd64", "file"]


def test_an_oci_layout_is_a_context(buildx: Run, context: Path, tmp_path: Path, engine: Engine) -> None:
    layout = tmp_path / "layout"
    buildx("build", "--target", "base", "-o", f"type=oci,tar=false,dest={layout}", str(context), check=True)
    engine.wherry("builder", "prune", "--all", "--force", check=True)
    before = engine.wherry("images", "--all", "--quiet", check=True).stdout
    (context / "Dockerfile").write_text("FROM lower\nCOPY --from=beside /one /two\nRUN cat /one /two >/both\n")
    contexts = ("--build-context", f"lower=oci-layout://{layout}", "--build-context", f"beside=oci-layout://{layout}")
    buildx("build", *contexts, "-o", str(tmp_path / "out"), str(context), check=True)
    assert (tmp_path / "out" / "both").read_text() == "one\none\n"
    assert engine.wherry("images", "--all", "--quiet", check=True).stdout == before
    for blob in (layout / "blobs" / "sha256").iterdir():
        blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    failed = buildx("build", *contexts, "--no-cache", str(context))
    assert failed.returncode == 1 and " has the digest sha256:" in failed.stderr


def test_cache_and_history(buildx: Run, context: Path) -> None:
    buildx("build", str(context), check=True)
    assert "Total:" in buildx("buildx", "du", check=True).stdout
    buildx("buildx", "prune", "--force", "--all", check=True)
    assert "BuildKit version" in buildx("buildx", "inspect", check=True).stdout


def test_ctrl_c_ends_the_build(configured: dict[str, str], context: Path, engine: Engine) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN sleep 1234\n")
    environment = {**os.environ, **configured, "DOCKER_HOST": engine.host}
    building = subprocess.Popen(
        [docker_cli(), "build", "--no-cache", str(context)], env=environment, stderr=subprocess.DEVNULL, text=True
    )

    def runs() -> bool:
        return any(b"sleep\x001234" in _command_line(pid) for pid in engine.processes())

    _until(runs, 20)
    building.send_signal(signal.SIGINT)
    assert building.wait(10) != 0
    _until(lambda: not runs(), 5)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
