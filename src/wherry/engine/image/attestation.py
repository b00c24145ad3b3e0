"""Attestations, of which the SBOM is one: what is said of an image, in the form of in-toto, for BuildKit's clients."""

import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from wherry import __version__
from wherry.common import times
from wherry.common.reference import Reference
from wherry.engine.platforms import name as platform_name
from wherry.model.image import Platform
from wherry.storage.content import hexadecimal
from wherry.storage.images import Image
from wherry.storage.store import Store
from wherry.storage.worker import client, jobs

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
            {"name": url_of_image(name, platform), "digest": {"sha256": hexadecimal(digest)}} for name in names
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


def url_of_image(name: Reference, platform: Platform | None = None, kind: str = "docker") -> str:
    """An image as a package URL: "pkg:docker/debian@bookworm?platform=linux%2Famd64"."""
    path = name.familiar_name
    version = f"@{quote(name.digest or name.tag, safe='')}" if name.digest or name.tag else ""
    qualifiers = f"?platform={quote(platform_name(platform), safe='')}" if platform is not None else ""
    return f"pkg:{kind}/{quote(path, safe='/')}{version}{qualifiers}"


# A bill of materials: the packages that an image's files tell of, as an SPDX document.

PREDICATE = "https://spdx.dev/Document"
_NAMESPACE = uuid.UUID("7b2a6a58-3f0e-4a57-9c1e-5d6f1f6f4c11")
_UNKNOWN = "NOASSERTION"
_OF_SYSTEM = ("deb", "apk", "rpm")


async def scan(store: Store, image: Image, name: str) -> Attestation:
    """``name`` is what the document calls the image. Raises EngineError."""
    view = store.snapshots.view(image.chain_id, "")
    found = await client.run(jobs.ScanPackages(root=(view,)))
    return Attestation(PREDICATE, document(image, name, found.packages, found.release), "sbom.spdx.json")


def document(image: Image, name: str, packages: list[dict[str, str]], release: dict[str, str]) -> dict[str, Any]:
    """The same image gives the same document."""
    unique = {msgspec.json.encode(each, order="deterministic"): each for each in packages}
    described = [_package(number, each, release) for number, (_, each) in enumerate(sorted(unique.items()), 1)]
    root = {
        "SPDXID": "SPDXRef-image",
        "name": name or image.id,
        "versionInfo": image.id,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
    }
    contained = [
        {"spdxElementId": "SPDXRef-image", "relatedSpdxElement": each["SPDXID"], "relationshipType": "CONTAINS"}
        for each in described
    ]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name or image.id,
        "documentNamespace": f"urn:uuid:{uuid.uuid5(_NAMESPACE, image.id)}",
        "creationInfo": {
            "created": times.rfc3339(image.created * times.SECOND)[:19] + "Z",
            "creators": [f"Tool: wherry-{__version__}"],
        },
        "packages": [root, *described],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relatedSpdxElement": "SPDXRef-image",
                "relationshipType": "DESCRIBES",
            },
            *contained,
        ],
    }


def _package(number: int, found: dict[str, str], release: dict[str, str]) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-package-{number}",
        "name": found["name"],
        "versionInfo": found.get("version", ""),
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": _UNKNOWN,
        **({"licenseComments": found["license"]} if "license" in found else {}),
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": url_of_package(found, release),
            }
        ],
    }


def url_of_package(found: dict[str, str], release: dict[str, str]) -> str:
    """ "pkg:deb/debian/bash@5.2-2?arch=amd64&distro=debian-12"."""
    kind, name = found["type"], found["name"]
    namespace, qualifiers = "", []
    if kind in _OF_SYSTEM:
        system = release.get("ID", "")
        namespace = f"{quote(system, safe='')}/" if system else ""
        qualifiers += [f"arch={quote(found['architecture'], safe='')}"] if "architecture" in found else []
        version = f"{system}-{release['VERSION_ID']}" if release.get("VERSION_ID") else system
        qualifiers += [f"distro={quote(version, safe='')}"] if system else []
    elif kind == "pypi":
        name = name.lower().replace("_", "-")
    version = f"@{quote(found['version'], safe='')}" if found.get("version") else ""
    path = "/".join(quote(part, safe="") for part in name.split("/"))
    return f"pkg:{kind}/{namespace}{path}{version}{'?' + '&'.join(qualifiers) if qualifiers else ''}"
