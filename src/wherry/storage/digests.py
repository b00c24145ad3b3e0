"""Digests: "sha256:" and 64 hexadecimal digits, the names of content."""

import hashlib
import re

from wherry.model.errors import InvalidParameter

_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")


def of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def check(digest: str) -> str:
    """The digest itself. Raises InvalidParameter for anything that is not one: digests become names of files."""
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise InvalidParameter(f"invalid digest: {str(digest)[:100]!r} (only sha256 is supported)")
    return digest


def hexadecimal(digest: str) -> str:
    return check(digest).removeprefix("sha256:")


def chain_id(parent: str, diff_id: str) -> str:
    """The id of a layer with all that is below it, by the OCI image specification. ``parent`` "" is the bottom."""
    return of(f"{parent} {diff_id}".encode()) if parent else diff_id


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The chain ids of an image's layers, the lowest first."""
    chain, found = "", []
    for diff_id in diff_ids:
        chain = chain_id(chain, check(diff_id))
        found.append(chain)
    return found
