"""What a build failed of, as BuildKit's clients take it apart: they show the lines of the Dockerfile by themselves."""

from base64 import b64encode

import msgspec

from wherry.buildkit.grpc import UNKNOWN, RpcError
from wherry.common.errors import EngineError
from wherry.dockerfile.lexer import DockerfileError
from wherry.engine.builder.request import StepFailed

_SOURCE = "github.com/moby/buildkit/errdefs.Source+json"


def headline(error: EngineError) -> str:
    """What went wrong, without the lines of the Dockerfile below it."""
    if isinstance(error, StepFailed):
        return error.headline
    return error.message.partition("\n")[0] if isinstance(error, DockerfileError) else error.message


def located(error: EngineError, dockerfile: bytes) -> RpcError:
    """The same error for the client; where it has a place in the Dockerfile, that is a detail, and not in its text."""
    if isinstance(error, RpcError):
        return error
    details = []
    if isinstance(error, StepFailed | DockerfileError) and error.position.file:
        position = error.position
        end = max(position.end, position.line)
        source = {
            "info": {"filename": position.file, "data": b64encode(dockerfile).decode(), "language": "Dockerfile"},
            "ranges": [{"start": {"line": line}, "end": {"line": line}} for line in range(position.line, end + 1)],
        }
        details = [(_SOURCE, msgspec.json.encode(source))]
    return RpcError(UNKNOWN, headline(error), details)
