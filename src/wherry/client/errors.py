"""What can go wrong between this side and the engine."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


class ClientError(Exception):
    """The root of all of this package's errors; its text is one line for a user."""


class APIError(ClientError):
    """The engine's answer was an error: `status` is HTTP's, `message` the engine's own text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"Error response from daemon: {message}")
        self.status = status
        self.message = message

    @property
    def not_found(self) -> bool:
        """Whether there is no such thing."""
        return self.status == 404


class ConnectionFailed(ClientError):
    """No engine answers at `host`."""

    def __init__(self, host: str, reason: str = "") -> None:
        detail = f" ({reason})" if reason else ""
        super().__init__(f"Cannot connect to the wherry daemon at {host}. Is the wherry daemon running?{detail}")
        self.host = host
        self.reason = reason


class ConnectionLost(ClientError):
    """The engine went away, or what it sent is not HTTP."""


class HostError(ClientError, ValueError):
    """An address that names no engine, like `npipe://` or `tcp://` with a port that is no number."""


class WorkFailed(ClientError):
    """Long work (a pull, a load) could not be done; the text is the engine's."""


def checked(messages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The messages of work under way. Raises WorkFailed at one that says that it has failed."""
    for message in messages:
        error = message.get("errorDetail") or message.get("error")
        if error:
            raise WorkFailed(str(error.get("message", "")) if isinstance(error, dict) else str(error))
        yield message
