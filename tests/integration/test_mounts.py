"""Making mounts, in a mount namespace of a child process's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

PREAMBLE = """
import os, sys
from wherry.linux import mounts, namespaces
from wherry.linux.syscalls import SyscallError
namespaces.unshare(namespaces.CLONE_NEWNS)
mounts.make_private()
"""


def inside(program: str, *arguments: str) -> str:
    """What the program prints, run as root of a new mount namespace."""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run(
        [sys.executable, "-c", PREAMBLE + program, *arguments], env=environment, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    """128 of them, with names that fill pages, and a colon in one."""
    made = []
    for number in range(127):
        layer = tmp_path / ("x" * 100) / f"{number:03}-{'y' * 100}"
        layer.mkdir(parents=True)
        (layer / f"file{number}").touch()
        made.append(str(layer))
    odd = tmp_path / "with:colon"
    odd.mkdir()
    (odd / "file127").touch()
    return [*made, str(odd).replace(":", "\\:")]


@pytest.mark.parametrize("how", ["make", "make_in_private_namespace", "_make_overlay_by_mount"])
def test_an_overlay_of_many_layers(tmp_path: Path, layers: list[str], how: str) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "work").mkdir()
    program = """
options = tuple(sys.argv[2:])
if sys.argv[1] == "_make_overlay_by_mount":  # what kernels before 6.7 get
    mount = mounts._make_overlay_by_mount("overlay", mounts.parse_options(options))
else:
    mount = getattr(mounts, sys.argv[1])("overlay", "overlay", options)
print(len([name for name in os.listdir(os.open(".", os.O_RDONLY, dir_fd=mount)) if name.startswith("file")]))
print(sum(" - overlay " in line for line in open("/proc/self/mountinfo")))
os.close(os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=mount))
"""
    options = (f"lowerdir={':'.join(layers)}", f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work")
    before = sum(" - overlay " in line for line in Path("/proc/self/mountinfo").read_text().splitlines())
    assert inside(program, how, *options).split() == ["128", str(before)]
    assert (tmp_path / "upper/made").exists()


def test_an_error_says_what_the_kernel_says(tmp_path: Path) -> None:
    program = """
try:
    mounts.make_in_private_namespace("overlay", "overlay", ("lowerdir=" + sys.argv[1], "nonsense=1"))
except SyscallError as error:
    print(error)
"""
    text = inside(program, str(tmp_path))
    assert text.startswith("mount overlay with nonsense=1: Invalid argument (")
    assert "nonsense" in text.partition("(")[2]


def test_attributes_and_propagation(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    program = """
mount = mounts.make("tmpfs", "mine", ("ro", "nosuid", "noatime", "size=1m"))
mounts.attach(mount, os.open(sys.argv[1] + "/one", os.O_PATH))
copy = mounts.clone(sys.argv[1] + "/one")
mounts.apply(copy, mounts.parse_options(("rw", "nodev", "shared")))
mounts.attach(copy, os.open(sys.argv[1] + "/other", os.O_PATH))
for line in open("/proc/self/mountinfo"):
    if " mine " in line:
        print(line.split()[5], "shared" in line)
"""
    assert inside(program, str(tmp_path)).split() == ["ro,nosuid,noatime", "False", "rw,nosuid,nodev,noatime", "True"]
