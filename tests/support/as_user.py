"""Runs a command as an ordinary user, whom there is for it alone: python tests/support/as_user.py COMMAND …

The user has subordinate ids (none with --one-id), an empty home, a runtime directory, and, as on most machines,
/dev/net/tun and /dev/fuse to open. All of it is in a mount namespace of the command's own: the machine stays as it is.
"""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from wherry.linux import mounts, namespaces

NAME = "wherry-test"
NUMBER = 54321
SUBORDINATE = 1_000_000_000
_PROJECT = Path(__file__).parents[2]
_ACCOUNTS = {
    "passwd": f"{NAME}:x:{NUMBER}:{NUMBER}::{{home}}:/bin/sh\n",
    "group": f"{NAME}:x:{NUMBER}:\n",
    "subuid": f"{NAME}:{SUBORDINATE}:65536\n",
    "subgid": f"{NAME}:{SUBORDINATE}:65536\n",
}
_NODES = {"/dev/net/tun": os.makedev(10, 200), "/dev/fuse": os.makedev(10, 229)}


def become(home: Path, *, one_id: bool) -> None:
    """Makes this process the user's, who is made."""
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.make_private()
    place = mounts.make("tmpfs", "tmpfs", ("mode=755",))
    for name, line in _ACCOUNTS.items():
        before = Path("/etc", name).read_text() if Path("/etc", name).exists() else ""
        text = before if one_id and name.startswith("sub") else before + line.format(home=home)
        _put(place, name, stat.S_IFREG | 0o644, text.encode())
        if Path("/etc", name).exists():
            _bind(place, name, f"/etc/{name}")
    for path, number in _NODES.items():
        if os.path.exists(path):
            name = os.path.basename(path)
            os.mknod(name, stat.S_IFCHR | 0o666, number, dir_fd=place)
            os.chmod(name, 0o666, dir_fd=place)
            _bind(place, name, path)
    _open_the_way([_PROJECT, Path(sys.prefix), Path(sys.base_prefix)])
    for directory in (home, home / "run"):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o700)
        os.chown(directory, NUMBER, NUMBER)
    os.setgroups([NUMBER])
    os.setresgid(NUMBER, NUMBER, NUMBER)
    os.setresuid(NUMBER, NUMBER, NUMBER)
    os.environ |= {"HOME": str(home), "USER": NAME, "LOGNAME": NAME, "XDG_RUNTIME_DIR": str(home / "run")}
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "SUDO_USER", "TMPDIR"):
        os.environ.pop(variable, None)


def _put(place: int, name: str, mode: int, content: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode, dir_fd=place)
    os.write(fd, content)
    os.close(fd)


def _bind(place: int, name: str, path: str) -> None:
    _attach(mounts.clone(name, directory=place), path)


def _attach(detached: int, path: str) -> None:
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    mounts.attach(detached, target, path)
    os.close(target)
    os.close(detached)


def _open_the_way(needed: Iterable[Path]) -> None:
    """Covers the folders that others may not enter, root's home say, with ones that have only what is ``needed``."""
    kept: dict[Path, int] = {}
    covered: set[Path] = set()
    for path in needed:
        closed = next((each for each in reversed(path.parents) if not each.stat().st_mode & stat.S_IXOTH), None)
        if closed is not None and path not in kept:
            kept[path] = mounts.clone(str(path), recursive=True)
            covered.add(closed)
    for folder in covered:
        _attach(mounts.make("tmpfs", "tmpfs", ("mode=755",)), str(folder))
    for path, detached in kept.items():
        path.mkdir(parents=True, exist_ok=True)
        _attach(detached, str(path))


def main(words: Sequence[str]) -> NoReturn:
    left = list(words)
    one_id = left[:1] == ["--one-id"]
    if one_id:
        left.pop(0)
    if left[:1] == ["--home"]:
        become(Path(left[1]), one_id=one_id)
        os.execvp(left[2], left[2:])
    home = Path(tempfile.mkdtemp(prefix="wherry-home-", dir="/var/tmp"))
    child = os.fork()
    if child == 0:
        become(home, one_id=one_id)
        os.execvp(left[0], left)
    _, status = os.waitpid(child, 0)
    shutil.rmtree(home, ignore_errors=True)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(sys.argv[1:])
