"""Why a process could not be started, in Docker's words."""

import os

NOT_FOUND = 127
NOT_EXECUTABLE = 126
CANNOT_START = 125

OF_USERS = ("unable to find ", "uids and gids must be in range ")
"""How messages begin that are about who is to run: Docker looks that up itself, and says nothing before them."""


class StartError(Exception):
    """``code`` is the exit code that stands for it: 127 not found, 126 not executable, 125 anything else."""

    def __init__(self, message: str, code: int = CANNOT_START) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def reason(error: OSError) -> str:
    """The errno's text as Docker's messages have it: in lower case ("no such file or directory")."""
    text = os.strerror(error.errno or 0)
    return text[:1].lower() + text[1:]
