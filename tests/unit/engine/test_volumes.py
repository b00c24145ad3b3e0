"""The address of a server that a volume is on."""

import socket
from typing import Any

import pytest

from wherry.engine.volumes import with_address


@pytest.mark.parametrize(
    ("type", "device", "options", "expected"),
    [
        ("nfs", ":/path", "addr=files,rw", "rw,addr=192.0.2.1"),
        ("nfs4", ":/path", "rw,soft", "rw,soft"),
        ("cifs", "//files/share", "username=a", "username=a,addr=192.0.2.1"),
        ("cifs", r"\\files\share", "", "addr=192.0.2.1"),
        ("cifs", "//files/share", "ip=192.0.2.9,username=a", "ip=192.0.2.9,username=a"),
        ("cifs", "//other/share", "addr=files", "addr=192.0.2.1"),
    ],
)
def test_names_become_numbers(
    monkeypatch: pytest.MonkeyPatch, type: str, device: str, options: str, expected: str
) -> None:
    def look_up(host: str, *arguments: Any, **options: Any) -> list[Any]:
        assert host == "files"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert with_address(type, device, options) == expected
