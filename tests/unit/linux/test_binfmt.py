"""Emulators, as the kernel describes them."""

from pathlib import Path

import pytest

from wherry.linux import binfmt

ARM64 = """enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""


@pytest.fixture
def directory(tmp_path: Path) -> str:
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "register").write_text("")
    (tmp_path / "qemu-aarch64").write_text(ARM64)
    (tmp_path / "jar").write_text("enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n")
    (tmp_path / "broken").write_text("enabled\nmagic zz\n")
    return str(tmp_path)


def test_found(directory: str) -> None:
    found = binfmt.emulator("arm64", directory)
    assert found is not None
    assert found.interpreter == "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"
    assert found.kept_open


@pytest.mark.parametrize("architecture", ["amd64", "arm", "s390x", "nonsense"])
def test_none(directory: str, architecture: str) -> None:
    assert binfmt.emulator(architecture, directory) is None


def test_disabled_or_not_mounted(directory: str, tmp_path: Path) -> None:
    (tmp_path / "qemu-aarch64").write_text(ARM64.replace("enabled", "disabled"))
    assert binfmt.emulator("arm64", directory) is None
    assert binfmt.emulator("arm64", f"{directory}/none") is None
