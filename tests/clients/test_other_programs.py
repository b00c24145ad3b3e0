"""Programs that ask Docker's engine for something of their own."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.usefixtures("clean_images")


@pytest.fixture
def skopeo(engine: Engine, tmp_path: Path) -> Any:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("no skopeo")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path)

    return run


def test_skopeo_copies_images_out_and_in(skopeo: Any, engine: Engine, busybox: str, tmp_path: Path) -> None:
    """That of Debian 12 asks by an API older than any that else is served."""
    assert skopeo("copy", "--src-daemon-host", engine.host, f"docker-daemon:{busybox}", "dir:out").returncode == 0
    back = skopeo("copy", "--dest-daemon-host", engine.host, "dir:out", "docker-daemon:copied:1")
    assert back.returncode == 0, back.stderr
    assert engine.wherry("run", "--rm", "copied:1", "echo", "aboard").stdout == "aboard\n"
    absent = skopeo("copy", "--src-daemon-host", engine.host, "docker-daemon:absent:1", "dir:absent")
    assert "No such image: absent:1" in absent.stderr


def test_testcontainers(engine: Engine, busybox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
    container = pytest.importorskip("testcontainers.core.container")
    images = pytest.importorskip("testcontainers.core.image")
    networks = pytest.importorskip("testcontainers.core.network")
    strategies = pytest.importorskip("testcontainers.core.wait_strategies")

    (tmp_path / "Dockerfile").write_text(
        f"FROM {busybox}\nRUN mkdir /www && echo page > /www/index.html\nEXPOSE 80\n"
        'CMD ["sh", "-c", "echo ready; exec httpd -f -h /www"]\n'
    )
    with (
        images.DockerImage(path=tmp_path, tag="server:1") as image,
        networks.Network() as network,
        container.DockerContainer(str(image)).with_exposed_ports(80).with_network(network)
        .with_network_aliases("server").waiting_for(strategies.LogMessageWaitStrategy("ready")) as server,
        container.DockerContainer(busybox).with_command("wget -qO- http://server/").with_network(network) as client,
    ):  # fmt: skip
        assert client.get_wrapped_container().wait()["StatusCode"] == 0
        assert client.get_logs() == (b"page\n", b"")
        assert 0 < int(server.get_exposed_port(80)) < 65536
        assert server.exec(["cat", "/www/index.html"]).output == b"page\n"
