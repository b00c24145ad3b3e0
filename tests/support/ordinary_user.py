"""An ordinary user with an engine of their own, for tests that are run by root."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support import as_user
from tests.support.engine import MARK, WHERRY, Engine, run_client


class OrdinaryUser:
    """One, whose engine starts with the first command that needs it: ``user("wherry", "run", …)``; see ``run_client``.

    ``home`` is a folder of the user's own.
    """

    def __init__(self, *, one_id: bool = False) -> None:
        if os.geteuid() != 0:
            pytest.skip("making a user needs root")
        self.home = Path(tempfile.mkdtemp(prefix="wherry-home-", dir="/var/tmp"))
        self.exec_root = self.home / "run" / "wherry"
        self.data_root = self.home / ".local" / "share" / "wherry"
        self.socket = self.exec_root / "wherry.sock"
        self._one_id = one_id
        self.engine = Engine(root=self.home)
        self.engine.socket, self.engine.host = self.socket, f"unix://{self.socket}"

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        program = str(WHERRY) if words[0] == "wherry" else words[0]
        inside = command(program, *words[1:], home=self.home, one_id=self._one_id)
        return run_client(inside, {MARK: self.engine.mark}, **{"timeout": 300, **options})

    def out(self, *words: str, **options: Any) -> str:
        """What a command that succeeds prints."""
        return str(self(*words, check=True, **options).stdout.strip())

    @property
    def log(self) -> str:
        return (self.exec_root / "daemon.log").read_text()

    def engine_pid(self) -> int:
        return int((self.exec_root / "lock").read_text())

    def close(self) -> None:
        """Ends the engine and all that it has left."""
        self.engine.discard()


def command(*words: str, home: Path, one_id: bool = False) -> list[str]:
    """A command that becomes this one, run by the user; ``home``, which is there, becomes the user's."""
    flags = ["--one-id"] if one_id else []
    return [sys.executable, as_user.__file__, *flags, "--home", str(home), *words]
