"""What users are told of errors that are not the engine's own."""

import errno
import logging
import sqlite3

from wherry.model.errors import EngineError

log = logging.getLogger(__name__)


def told(failure: Exception) -> str:
    """The message for an error; what is a mistake of ours is seen in the log."""
    if isinstance(failure, EngineError):
        return failure.message
    if _is_full(failure):
        return "no space left on device"
    log.error("this should not have happened", exc_info=failure)
    return f"internal error: {type(failure).__name__}: {failure}"


def _is_full(failure: Exception) -> bool:
    if isinstance(failure, sqlite3.Error):
        return getattr(failure, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT)
