"""Programs of Debian's packages that tests run: the machine's own, or those that scripts/fixtures.sh has extracted."""

import shutil

from tests.support.engine import CACHE


def find(name: str) -> str | None:
    """A program's path; None when it is nowhere."""
    return shutil.which(name) or shutil.which(name, path=str(CACHE / name))
