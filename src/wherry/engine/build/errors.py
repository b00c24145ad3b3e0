"""A step that failed: where it stands, and the exit code that the builder ends with."""

from wherry.dockerfile.errors import NOWHERE, DockerfileError, Position
from wherry.model.errors import EngineError


class StepFailed(EngineError):
    """``code`` is the command's exit code, 1 for what was no command; ``status`` that of what went wrong."""

    def __init__(self, reason: str, position: Position, code: int = 1, status: int = 500) -> None:
        super().__init__(f"{reason}\n{position.excerpt()}" if position.file else reason)
        self.code = code
        self.status = status


def at(error: EngineError, position: Position) -> EngineError:
    """The same error with its place, unless it has one."""
    if isinstance(error, StepFailed):
        return error
    if isinstance(error, DockerfileError):
        return StepFailed(error.at(position).message, NOWHERE, status=error.status)
    return StepFailed(error.message, position, status=error.status)
