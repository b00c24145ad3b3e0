"""mount(8)'s options as mount(2) wants them."""

from pathlib import Path

import pytest

from wherry.linux import host_mounts


@pytest.mark.parametrize(
    ("options", "flags", "propagation", "data"),
    [
        ("", 0, 0, ""),
        ("bind", 0x1000, 0, ""),
        ("rbind,ro", 0x5001, 0, ""),
        ("ro,nosuid,nodev,noexec,rw", 0xE, 0, ""),
        ("defaults,noatime,size=1m,uid=7", 0x400, 0, "size=1m,uid=7"),
        ("bind,rslave", 0x1000, 0x84000, ""),
        ("addr=10.0.0.1,,soft,nolock", 0, 0, "addr=10.0.0.1,soft,nolock"),
    ],
)
def test_options(options: str, flags: int, propagation: int, data: str) -> None:
    assert host_mounts.parse(options) == (flags, propagation, data)


def test_an_ordinary_directory_is_not_mounted(tmp_path: Path) -> None:
    assert not host_mounts.is_mounted(str(tmp_path))
    host_mounts.take_away(str(tmp_path))
    host_mounts.take_away(str(tmp_path / "missing"))
    assert host_mounts.is_mounted("/proc")
    assert host_mounts.propagation("/proc/self/mountinfo")[0] == "/proc"
