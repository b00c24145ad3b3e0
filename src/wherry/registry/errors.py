"""What a registry refuses, in the words that Docker has for it. No secret is ever part of a message.

Texts of registries are shown to people: they are cut to a sensible length, and nothing in them can steer a terminal.
"""

from http import HTTPStatus
from typing import Any

import msgspec

from wherry.common.errors import EngineError

NOT_JSON = (msgspec.MsgspecError, RecursionError, UnicodeError)
"""What decoding raises for bytes that are no JSON, nested without end, or text in no known code."""

_LONGEST = 500  # characters of a registry's own text


class RegistryError(EngineError):
    """``code`` is the registry's own ("MANIFEST_UNKNOWN"), "" when it gave none; ``answered`` is its HTTP status, 0
    when there was no answer. ``retry_after`` in seconds, if it asked for patience."""

    def __init__(self, message: str, *, code: str = "", answered: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.answered = answered
        self.retry_after = retry_after


class Unauthorized(RegistryError):
    """Who asks is not known, or the password is wrong.

    The API's status is not 401: the docker CLI would ask for a password whenever a pull or a push is refused.
    """


class LogInRefused(EngineError):
    """The registry does not know a user that somebody wants to log in as."""

    status = 401


class Unreachable(RegistryError):
    """There is no talking to the registry. ``broke_off``: there was, so that asking again may help; otherwise ``host``
    is where there is none, which may also be where the registry leads to."""

    def __init__(self, message: str, *, broke_off: bool = False, host: str = "") -> None:
        super().__init__(message)
        self.broke_off = broke_off
        self.host = host


class WrongContent(RegistryError):
    """What came is not what its digest and size promised."""


def of_answer(status: int, body: bytes, *, retry_after: float | None = None) -> RegistryError:
    """The error that an answer stands for, in Docker's words."""
    found = _errors(body)
    if found:
        text = found[0][1] if len(found) == 1 else "errors:\n" + "".join(f"{text}\n" for _, text in found)
        code = found[0][0]
    else:
        code, text = _of_status(status, _details(body))
    kind = Unauthorized if status == 401 or code == "UNAUTHORIZED" else RegistryError
    return kind(text, code=code, answered=status, retry_after=retry_after)


def printable(text: str) -> str:
    """A registry's text without what a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text[:_LONGEST])


def _errors(body: bytes) -> list[tuple[str, str]]:
    """(code, "code: message") of each error in the specification's form."""
    document = _decode(body)
    errors = document.get("errors") if isinstance(document, dict) else None
    found = []
    for error in errors[:10] if isinstance(errors, list) else ():
        if isinstance(error, dict) and isinstance(error.get("code"), str):
            code = error["code"][:100]
            message = error.get("message") or code.lower().replace("_", " ")
            found.append((code, printable(f"{code.lower().replace('_', ' ')}: {message}")))
    return found


def _details(body: bytes) -> str:
    """What token servers say instead."""
    document = _decode(body)
    if isinstance(document, dict):
        for name in ("details", "message", "error_description", "error"):
            if isinstance(document.get(name), str):
                return printable(document[name])
    return ""


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except NOT_JSON:
        return None


def _of_status(status: int, details: str) -> tuple[str, str]:
    if status == 401:
        return "UNAUTHORIZED", f"unauthorized: {details or 'authentication required'}"
    if status == 403:
        return "DENIED", f"denied: {details or 'requested access to the resource is denied'}"
    if status == 429:
        return "TOOMANYREQUESTS", f"toomanyrequests: {details or 'too many requests'}"
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return "", f"received unexpected HTTP status: {status} {phrase}".rstrip()
