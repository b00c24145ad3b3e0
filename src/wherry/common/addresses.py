"""Addresses of the web, which clients and registries write, and which may be none."""

from urllib.parse import SplitResult, urlsplit

from wherry.common.errors import InvalidParameter
from wherry.common.values import quoted


def split_address(text: str) -> SplitResult:
    """Its parts. Raises InvalidParameter for brackets around no address and a port that is no number."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise InvalidParameter(f"parse {quoted(text)}: {error}") from None
    return parts
