"""Who a process runs as: Docker's rules on a container's passwd and group files."""

import os
from pathlib import Path

import pytest

from wherry.runtime.identity import Identity, look_up_user
from wherry.runtime.ipc import StartError

PASSWD = """\
root:x:0:0:root:/root:/bin/sh

# a comment, as some images have
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
www:x:33:33::/var/www:/bin/sh
twice:x:50:50::/first:/bin/sh
twice:x:51:51::/second:/bin/sh
777:x:5:5::/named/by/number:/bin/sh
short:x:60
"""
GROUP = """\
root:x:0:
adm:x:4:daemon,www
www:x:33:
audio:x:29:www
600:x:6:
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "group").write_text(GROUP)
    return {"passwd": str(tmp_path / "passwd"), "group": str(tmp_path / "group")}


@pytest.mark.parametrize(
    ("user", "extra", "expected"),
    [
        ("", (), Identity(0, 0, (0,), "/root")),
        ("root", (), Identity(0, 0, (0,), "/root")),
        ("www", (), Identity(33, 33, (33, 4, 29), "/var/www")),
        ("33", (), Identity(33, 33, (33, 4, 29), "/var/www")),
        ("www:adm", (), Identity(33, 4, (4,), "/var/www")),
        ("www:4", (), Identity(33, 4, (4,), "/var/www")),
        ("www:1234", (), Identity(33, 1234, (1234,), "/var/www")),
        (":adm", (), Identity(0, 4, (4,), "/root")),
        ("4000", (), Identity(4000, 0, (0,), "/")),
        ("4000:29", (), Identity(4000, 29, (29,), "/")),
        ("twice", (), Identity(50, 50, (50,), "/first")),
        ("short", (), Identity(60, 0, (0,), "/")),
        ("daemon", ("audio", "5000"), Identity(1, 1, (1, 4, 29, 5000), "/usr/sbin")),
        # A number is always an id, never a name, but for the groups of --group-add, which are looked up as both.
        ("777", (), Identity(777, 0, (0,), "/")),
        ("root:600", (), Identity(0, 600, (600,), "/root")),
        ("root", ("600",), Identity(0, 0, (0, 6), "/root")),
    ],
)
def test_look_up(files: dict[str, str], user: str, extra: tuple[str, ...], expected: Identity) -> None:
    assert look_up_user(user, extra, **files) == expected


@pytest.mark.parametrize(
    ("user", "extra", "message"),
    [
        ("foo", (), "unable to find user foo: no matching entries in passwd file"),
        ("foo:adm", (), "unable to find user foo: no matching entries in passwd file"),
        ("www:foo", (), "unable to find group foo: no matching entries in group file"),
        ("www", ("foo",), "unable to find group foo: no matching entries in group file"),
        ("9" * 5000, (), f"unable to find user {'9' * 5000}: no matching entries in passwd file"),
        ("-1", (), "uids and gids must be in range 0-2147483647"),
        ("2147483648", (), "uids and gids must be in range 0-2147483647"),
        ("0:4294967295", (), "uids and gids must be in range 0-2147483647"),
    ],
)
def test_what_is_refused(files: dict[str, str], user: str, extra: tuple[str, ...], message: str) -> None:
    with pytest.raises(StartError) as caught:
        look_up_user(user, extra, **files)
    assert caught.value.message == message


def test_no_files_at_all() -> None:
    nothing = {"passwd": "/nonexistent/passwd", "group": "/nonexistent/group"}
    assert look_up_user("", **nothing) == Identity(0, 0, (0,), "/")
    assert look_up_user("1000:1000", **nothing) == Identity(1000, 1000, (1000,), "/")
    with pytest.raises(StartError, match="unable to find user www"):
        look_up_user("www", **nothing)


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_a_file_that_is_none_neither_waits_nor_acts(tmp_path: Path, files: dict[str, str], kind: str) -> None:
    passwd = tmp_path / "strange"
    if kind == "fifo":
        os.mkfifo(passwd)
    elif kind == "directory":
        passwd.mkdir()
    else:
        passwd.symlink_to("/dev/zero")
    assert look_up_user("7:7", passwd=str(passwd), group=files["group"]) == Identity(7, 7, (7,), "/")


def test_a_file_without_end_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    passwd = tmp_path / "huge"
    passwd.touch()
    os.truncate(passwd, 1 << 40)  # one line of NULs, a terabyte long
    with pytest.raises(StartError, match="too large"):
        look_up_user("www", passwd=str(passwd), group=files["group"])


def test_bytes_that_are_not_text(tmp_path: Path, files: dict[str, str]) -> None:
    passwd = tmp_path / "latin1"
    passwd.write_bytes(b"caf\xe9:x:9:9::/home/caf\xe9:/bin/sh\n" + PASSWD.encode())
    assert look_up_user("www", passwd=str(passwd), group=files["group"]).uid == 33
