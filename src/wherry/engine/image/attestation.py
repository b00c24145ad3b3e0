"""Attestations: what is said of an image in the form of in-toto, which is how BuildKit's clients read it."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from wherry.common.reference import Reference
from wherry.engine.platforms import name as platform_name
from wherry.model.image import Platform
from wherry.storage.content import hexadecimal

_STATEMENT = "https://in-toto.io/Statement/v0.1"


class Attestation(msgspec.Struct, frozen=True):
    """``name`` is that of its file where files are exported. ``inline_only``: it only goes with images."""

    predicate_type: str
    predicate: Any
    name: str
    inline_only: bool = False


class Statement(msgspec.Struct, frozen=True):
    predicate_type: str
    subjects: list[dict[str, Any]]
    predicate: Any

    @classmethod
    def of(cls, said: Attestation, names: Sequence[Reference], platform: Platform, digest: str) -> "Statement":
        """About a manifest, by the names of its image."""
        subjects = [
            {"name": package_url(name, platform), "digest": {"sha256": hexadecimal(digest)}} for name in names
        ] or [{"name": "_", "digest": {"sha256": hexadecimal(digest)}}]
        return cls(said.predicate_type, subjects, said.predicate)

    def encode(self) -> bytes:
        return msgspec.json.encode(
            {
                "_type": _STATEMENT,
                "predicateType": self.predicate_type,
                "subject": self.subjects,
                "predicate": self.predicate,
            }
        )


def package_url(name: Reference, platform: Platform | None = None, kind: str = "docker") -> str:
    """An image as a package URL: "pkg:docker/debian@bookworm?platform=linux%2Famd64"."""
    path = name.familiar_name
    version = f"@{quote(name.digest or name.tag, safe='')}" if name.digest or name.tag else ""
    qualifiers = f"?platform={quote(platform_name(platform), safe='')}" if platform is not None else ""
    return f"pkg:{kind}/{quote(path, safe='/')}{version}{qualifiers}"
