"""Platforms in queries: JSON that stands for "linux/arm64"."""

import msgspec

from wherry.api.request import Request
from wherry.model.errors import InvalidParameter
from wherry.model.manifests import Platform
from wherry.registry import platforms


def asked(request: Request, since: tuple[int, int]) -> str:
    """The platform of a request, in the words of the command line; "" for none, and below that version of the API."""
    text = request.text("platform")
    return read(text) if text and request.version >= since else ""


def read(text: str) -> str:
    """Raises InvalidParameter."""
    try:
        return platforms.name(msgspec.json.decode(text, type=Platform))
    except msgspec.MsgspecError as error:
        raise InvalidParameter(f"failed to parse platform: {error}") from None
