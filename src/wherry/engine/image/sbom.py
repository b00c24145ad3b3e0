"""A bill of materials: the packages that an image's files tell of, as an SPDX document."""

import uuid
from typing import Any
from urllib.parse import quote

import msgspec

from wherry import __version__
from wherry.common import times
from wherry.engine.image.attestation import Attestation
from wherry.storage.images import Image
from wherry.storage.store import Store
from wherry.storage.worker import client, jobs

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
                "referenceLocator": package_url(found, release),
            }
        ],
    }


def package_url(found: dict[str, str], release: dict[str, str]) -> str:
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
