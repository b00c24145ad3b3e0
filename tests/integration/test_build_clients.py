"""``build`` by other clients: the docker CLI and docker-py."""

import gzip
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import registry
from tests.support.builds import Builder
from tests.support.engine import Engine

Finished = subprocess.CompletedProcess[str]
Build = Callable[..., Finished]


def test_every_flag_of_the_classic_docker_cli(build: Builder, docker: Build, tmp_path: Path) -> None:
    build.write({"kept": "kept\n", "left.log": "", ".dockerignore": "*.log\nDockerfile\n"})
    (build.context / "Dockerfile").write_text(
        "ARG BASE=nothing\nFROM $BASE AS first\nARG GIVEN\n"
        "RUN echo $GIVEN > /given; ulimit -n > /files; ulimit -Hn >> /files; df -m /dev/shm | tail -n1 > /shm\n"
        "RUN grep extra /etc/hosts > /hosts; grep Seccomp: /proc/self/status > /seccomp\n"
        "RUN cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes > /memory 2> /dev/null || true\n"
        "COPY . /context/\nFROM first AS last\nRUN exit 1\n"
    )
    limits = (
        "--ulimit nofile=333:444 --shm-size 32m --memory 100m --memory-swap 200m --cpu-shares 200 --cpu-period 50000"
    )
    cpus = "--cpu-quota 40000 --cpuset-cpus 0 --cpuset-mems 0 --cgroup-parent built --security-opt seccomp=unconfined"
    said = (
        "-t built -t built:two --build-arg BASE=busybox --build-arg GIVEN=value --label c=3 --target first --no-cache"
    )
    rest = "--network none --add-host extra:10.1.2.3 --force-rm --compress --platform linux/amd64 --cache-from built"
    flags = f"{limits} {cpus} {said} {rest} --iidfile {tmp_path / 'id'}".split()
    docker("build", *flags, str(build.context), env={"DOCKER_BUILDKIT": "0"}, check=True)
    shown = build.shows("cat", "/given", "/files", "/hosts", "/seccomp")
    assert shown == "value\n333\n444\n10.1.2.3\textra\nSeccomp:\t0\n"
    assert build.shows("cat", "/shm").split()[1] == "32"
    assert build.shows("cat", "/memory") == f"{100 << 20}\n"
    assert {name for name in build.files() if name.startswith("context/")} == {"context/kept", "context/.dockerignore"}
    image = build.image("built:two")
    assert image["Config"]["Labels"] == {"c": "3"} and image["Id"] == (tmp_path / "id").read_text()
    docker("rmi", "built:two", check=True)


def test_what_the_docker_cli_shows(build: Builder, docker: Build) -> None:
    (build.context / "Dockerfile").write_text('FROM busybox\nRUN echo from the step\nCMD ["true"]\n')
    options = ("--no-cache", "--network", "none", "-t", "built", str(build.context))
    shown = docker("build", *options, env={"DOCKER_BUILDKIT": "0"}, check=True).stdout.splitlines()
    assert [line for line in shown if line.startswith("Step ")] == [
        "Step 1/3 : FROM busybox", "Step 2/3 : RUN echo from the step", 'Step 3/3 : CMD ["true"]',
    ]  # fmt: skip
    base = build.image("busybox")["Id"].removeprefix("sha256:")[:12]
    assert "from the step" in shown and shown[shown.index("Step 1/3 : FROM busybox") + 1] == f" ---> {base}"
    short = build.image()["Id"].removeprefix("sha256:")[:12]
    assert shown[-3:] == [f" ---> {short}", f"Successfully built {short}", "Successfully tagged built:latest"]
    docker("rmi", "built", check=True)


def test_a_base_image_behind_a_password(build: Builder, engine: Engine, tmp_path: Path) -> None:
    if not registry.installed():
        pytest.skip("docker-registry is not installed")
    with registry.running(registry.with_password(tmp_path / "registry")) as locked:
        own = {"DOCKER_CONFIG": str(tmp_path / "home")}
        name = f"{locked.host}/base"
        (build.context / "Dockerfile").write_text(f"FROM {name}\nLABEL from=locked\n")
        engine.wherry("login", "-u", registry.USER, "--password-stdin", locked.host, input=registry.PASSWORD, env=own,
                      check=True)  # fmt: skip
        engine.wherry("tag", "busybox", name, check=True)
        engine.wherry("push", name, env=own, check=True)
        engine.wherry("rmi", name, check=True)
        refused = engine.wherry("build", "-t", "built", str(build.context), env={"DOCKER_CONFIG": str(tmp_path)})
        assert refused.returncode == 1 and "no basic auth credentials" in refused.stderr
        for client, more in ((engine.wherry, {}), (engine.docker, {"DOCKER_BUILDKIT": "0"})):
            client("build", "-t", "built", str(build.context), env=own | more, check=True)
            assert build.image()["Config"]["Labels"] == {"from": "locked"}
            engine.wherry("rmi", name, check=True)


def test_docker_py(docker_client: Any, busybox: str) -> None:
    import docker

    image, log = docker_client.images.build(
        fileobj=io.BytesIO(b"FROM busybox\nRUN echo out; echo err >&2\nCMD echo hello\n"),
        tag="built", network_mode="none",
        labels={"a": "b"}, shmsize=8 << 20, extra_hosts={"x": "1.2.3.4"}, nocache=True,
    )  # fmt: skip
    text = "".join(line.get("stream", "") for line in log)
    assert "out\n" in text and "\x1b[91merr\n\x1b[0m" in text and image.labels == {"a": "b"}
    assert docker_client.containers.run("built", remove=True, network_mode="none") == b"hello\n"
    with pytest.raises(docker.errors.BuildError, match="returned a non-zero code: 1"):
        docker_client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 1\n"))
    assert isinstance(docker_client.api.prune_builds()["SpaceReclaimed"], int)


def test_docker_py_counts_cached_steps(docker_client: Any, busybox: str) -> None:
    script = b"FROM busybox\nENV FOO=bar\nRUN touch baz\nRUN touch bax\n"
    list(docker_client.api.build(fileobj=io.BytesIO(script), tag="built1", network_mode="none"))
    for sources, expected in ((["nosuchtag", "built1"], 3), (["nosuchtag"], 0)):
        again = docker_client.api.build(
            fileobj=io.BytesIO(script), tag="built2", cache_from=sources, network_mode="none", decode=True
        )
        assert sum("Using cache" in line.get("stream", "") for line in again) == expected
    for name in ("built1", "built2"):
        docker_client.api.remove_image(name)


def test_a_compressed_context(engine: Engine, busybox: str) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        text = b"FROM busybox\nRUN echo zipped\n"
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    import docker

    client = docker.APIClient(base_url=engine.host, version="auto")
    zipped = io.BytesIO(gzip.compress(plain.getvalue()))
    lines = list(client.build(fileobj=zipped, custom_context=True, encoding="gzip", network_mode="none", decode=True))
    assert any("zipped" in line.get("stream", "") for line in lines)
    client.close()
