"""Provenance by SLSA: of what a build was made, and how, as BuildKit's clients and policies read it."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from wherry.common import times
from wherry.common.errors import InvalidParameter, NotSupported
from wherry.engine.image.attestation import Attestation

_BUILD_TYPE = "https://mobyproject.org/buildkit@v1"
_BUILD_TYPE_1 = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_METADATA = f"{_BUILD_TYPE}#metadata"
_PREDICATES = {"v0.2": "https://slsa.dev/provenance/v0.2", "v1": "https://slsa.dev/provenance/v1"}
_KEPT = ("target", "filename", "platform", "cmdline", "source")  # of the frontend's options, in either mode


class Material(msgspec.Struct, frozen=True):
    """What went into a build from elsewhere: a package URL or an address, and a digest ("sha256:…"), "" for none."""

    uri: str
    digest: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """What was asked for: ``full`` also tells of arguments and of the Dockerfile."""

    full: bool = False
    inline_only: bool = False
    version: str = "v0.2"
    builder: str = ""

    @classmethod
    def parse(cls, text: str) -> "Wanted | None":
        """Reads "mode=max,version=v1"; None when it is not wanted. Raises InvalidParameter, NotSupported."""
        fields = _fields(text)
        if fields.pop("disabled", "false") == "true":
            return None
        mode, version = fields.pop("mode", "min") or "min", fields.pop("version", "v0.2")
        if mode not in ("min", "max"):
            raise InvalidParameter(f"invalid mode {mode} of the provenance: expected min or max")
        if version not in _PREDICATES:
            raise InvalidParameter(f"invalid version {version} of the provenance: expected v0.2 or v1")
        inline_only, builder = fields.pop("inline-only", "false") == "true", fields.pop("builder-id", "")
        if fields.pop("reproducible", "false") == "true" or fields:
            unknown = min(fields, default="reproducible")
            raise NotSupported(
                f"the provenance's option {unknown} is not supported: expected mode, version, builder-id"
            )
        return cls(mode == "max", inline_only, version, builder)


def _fields(text: str) -> dict[str, str]:
    fields = dict(part.partition("=")[::2] for part in text.split(",") if part)
    fields.pop("type", "")
    return fields


def check(options: Mapping[str, str]) -> None:
    """Whether what is to be attested can be, before anything is built. Raises InvalidParameter, NotSupported."""
    for name, text in options.items():
        if name == "attest:provenance":
            Wanted.parse(text)
        elif name == "attest:sbom":
            wants_sbom(text)
        elif name.startswith("attest:"):
            kind = name.removeprefix("attest:")
            raise NotSupported(f"attestation of type {kind} is not supported: expected provenance or sbom")


class Invocation(msgspec.Struct, frozen=True):
    """One build as its provenance tells of it. Times are nanoseconds since the epoch."""

    id: str
    options: Mapping[str, str]
    platform: str
    materials: Sequence[Material]
    started: int
    ended: int
    source: str = ""
    filename: str = "Dockerfile"
    dockerfile: bytes = b""


def provenance(wanted: Wanted, build: Invocation) -> Attestation:
    predicate = _version_1(wanted, build) if wanted.version == "v1" else _version_0(wanted, build)
    return Attestation(_PREDICATES[wanted.version], predicate, "provenance.json", wanted.inline_only)


def _arguments(wanted: Wanted, build: Invocation) -> dict[str, str]:
    """What secrets hold is in no option; what arguments do is only told where that was asked for."""
    return {
        name: value
        for name, value in sorted(build.options.items())
        if (wanted.full and not name.startswith("attest:")) or name in _KEPT
    }


def _materials(build: Invocation) -> list[dict[str, Any]]:
    return [
        {"uri": each.uri, **({"digest": dict([each.digest.split(":", 1)])} if each.digest else {})}
        for each in build.materials
    ]


def _source(build: Invocation) -> dict[str, Any]:
    return {**({"uri": build.source} if build.source else {}), "entryPoint": build.filename}


def _locals(build: Invocation) -> list[dict[str, str]]:
    return [] if build.source else [{"name": "context"}, {"name": "dockerfile"}]


def _dockerfile(wanted: Wanted, build: Invocation) -> dict[str, Any]:
    if not wanted.full or not build.dockerfile:
        return {}
    info = {"filename": build.filename, "language": "Dockerfile", "data": b64encode(build.dockerfile).decode()}
    return {"source": {"infos": [info]}}


def _version_0(wanted: Wanted, build: Invocation) -> dict[str, Any]:
    return {
        "builder": {"id": wanted.builder},
        "buildType": _BUILD_TYPE,
        "materials": _materials(build),
        "invocation": {
            "configSource": _source(build),
            "parameters": {
                "frontend": "dockerfile.v0",
                "args": _arguments(wanted, build),
                "locals": _locals(build),
            },
            "environment": {"platform": build.platform},
        },
        "metadata": {
            "buildInvocationID": build.id,
            "buildStartedOn": times.rfc3339(build.started),
            "buildFinishedOn": times.rfc3339(build.ended),
            "completeness": {"parameters": wanted.full, "environment": True, "materials": False},
            "reproducible": False,
            _METADATA: _dockerfile(wanted, build),
        },
    }


def _version_1(wanted: Wanted, build: Invocation) -> dict[str, Any]:
    request = {"frontend": "dockerfile.v0", "args": _arguments(wanted, build), "locals": _locals(build)}
    return {
        "buildDefinition": {
            "buildType": _BUILD_TYPE_1,
            "externalParameters": {"configSource": _source(build), "request": request},
            "internalParameters": {"builderPlatform": build.platform},
            "resolvedDependencies": _materials(build),
        },
        "runDetails": {
            "builder": {"id": wanted.builder},
            "metadata": {
                "invocationID": build.id,
                "startedOn": times.rfc3339(build.started),
                "finishedOn": times.rfc3339(build.ended),
                "buildkit_metadata": _dockerfile(wanted, build),
                "buildkit_completeness": {"request": wanted.full, "resolvedDependencies": False},
                "buildkit_hermetic": False,
            },
        },
    }


def wants_sbom(text: str | None) -> bool:
    """Reads "generator=…", or nothing. Raises NotSupported: images are only scanned by the engine itself."""
    if text is None:
        return False
    fields = _fields(text)
    if fields.pop("disabled", "false") == "true":
        return False
    fields.pop("inline-only", "")
    if fields:
        raise NotSupported(f"the SBOM's option {min(fields)} is not supported: the engine scans images by itself")
    return True
