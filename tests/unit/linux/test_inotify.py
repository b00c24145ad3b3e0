"""Being told of changes to files."""

import os
from pathlib import Path

import pytest

from wherry.linux.files import IN_CREATE, IN_MODIFY, IN_MOVED_TO, Inotify
from wherry.linux.syscalls import SyscallError


def test_events_carry_names(tmp_path: Path) -> None:
    inotify = Inotify()
    watch = inotify.watch(str(tmp_path), IN_CREATE | IN_MODIFY | IN_MOVED_TO)
    assert list(inotify.events()) == []
    (tmp_path / "a").write_text("x")
    os.rename(tmp_path / "a", tmp_path / "a much longer name")
    assert list(inotify.events()) == [
        (watch, IN_CREATE, "a"),
        (watch, IN_MODIFY, "a"),
        (watch, IN_MOVED_TO, "a much longer name"),
    ]
    inotify.close()


def test_what_cannot_be_watched_is_named() -> None:
    inotify = Inotify()
    with pytest.raises(SyscallError, match="watch /no/such/file: No such file or directory"):
        inotify.watch("/no/such/file", IN_MODIFY)
    inotify.close()
