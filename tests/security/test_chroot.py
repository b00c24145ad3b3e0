"""An engine in a chroot, as in a rescue system or a build root: its containers are still worlds of their own.

A hole is a file or a process of the real root's that is reached through exec, cp or a container that joins another.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import CACHE, Engine

# A root of the same directories, but with another top: what is only in the real one's is not to be seen.
_CHROOT = """
set -e
root=$(mktemp -d /tmp/wherry-chroot.XXXXXX)
mount -t tmpfs tmpfs "$root"
for each in /*; do
    [ -h "$each" ] && { cp -P "$each" "$root$each"; continue; }
    [ -d "$each" ] || continue
    mkdir "$root$each"
    mount --rbind "$each" "$root$each"
done
rmdir "$root"/lost+found 2>/dev/null || true
exec chroot "$root" "$@"
"""


@pytest.fixture
def marker() -> Iterator[Path]:
    path = Path(f"/wherry-test-{os.getpid()}")
    path.write_text("the real root's")
    yield path
    path.unlink()


@pytest.fixture
def chrooted(_images: None, marker: Path) -> Iterator[Engine]:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    engine = Engine(prefix=("unshare", "--mount", "--propagation", "private", "sh", "-c", _CHROOT, "sh"))
    try:
        engine.start()
        assert not Path(f"/proc/{engine.pid}/root{marker}").exists(), "the engine is in no chroot"
        engine.load(CACHE / "busybox.image.tar")
        yield engine
        engine.remove_containers()
        engine.stop()
    finally:
        engine.discard()
        subprocess.run(["sh", "-c", "rmdir /tmp/wherry-chroot.* 2>/dev/null"], check=False)


def test_exec_and_cp_stay_inside(chrooted: Engine, marker: Path, tmp_path: Path) -> None:
    """A hole: exec or cp comes out at the real root, where the marker lies."""
    run = chrooted.wherry
    run("run", "-d", "--name", "box", "--ipc", "shareable", "-v", "data:/data", "busybox", "sleep", "1000", check=True)
    assert run("exec", "box", "cat", "/proc/1/comm", check=True).stdout == "sleep\n"
    assert run("exec", "box", "ls", str(marker)).returncode == 1
    run("exec", "box", "sh", "-c", "echo inside >/made; echo data >/data/made", check=True)
    assert not Path("/made").exists()
    assert run("cp", f"box:{marker}", str(tmp_path)).returncode != 0
    (tmp_path / "sent").write_text("sent")
    run("cp", str(tmp_path / "sent"), "box:/", check=True)
    assert not Path("/sent").exists()
    assert run("exec", "box", "cat", "/made", "/sent", "/data/made", check=True).stdout == "inside\nsentdata\n"
    assert (
        run("run", "--rm", "--pid", "container:box", "busybox", "cat", "/proc/1/comm", check=True).stdout == "sleep\n"
    )
    assert run("run", "--rm", "--volumes-from", "box", "busybox", "cat", "/data/made", check=True).stdout == "data\n"
    shared = run("run", "--rm", "--ipc", "container:box", "busybox", "ls", str(marker))
    assert shared.returncode == 1


def test_a_build_stays_inside(chrooted: Engine, marker: Path, tmp_path: Path) -> None:
    """A hole: RUN sees the real root's marker, or writes beside it."""
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\nRUN ! ls {marker} && echo x >/made\n")
    chrooted.wherry("build", "-t", "built", str(tmp_path), check=True)
    assert chrooted.wherry("run", "--rm", "built", "cat", "/made", check=True).stdout == "x\n"
    assert not Path("/made").exists()
