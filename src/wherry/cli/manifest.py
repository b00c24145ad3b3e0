"""`manifest inspect`: what a name leads to in its registry, without pulling it."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import Command, CommandError, between

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options

_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def run_inspect(session: Session, options: Options) -> None:
    from wherry.cli.auth import header
    from wherry.cli.reference import parse, tagged
    from wherry.client.client import quote

    if len(options.arguments) > 1:
        raise CommandError("wherry keeps no manifest lists of its own: name the manifest alone")
    text = options.arguments[0]
    try:
        reference = parse(text)
    except ValueError as error:
        raise CommandError(f"Error parsing name for manifest list {text}: {error}") from None
    if reference is None:
        raise CommandError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    name = tagged(reference)
    path = name.repository + (f"@{name.digest}" if name.digest else f":{name.tag}")
    auth = header(session.config, name.domain)
    found: dict[str, Any] = session.client.request(
        "GET",
        f"/distribution/{quote(path, '/:@')}/manifest",
        query={"insecure": options["insecure"] or None},
        headers={"X-Registry-Auth": auth} if auth else {},
    ).json()
    sys.stdout.write(_indented(_described(found) if options["verbose"] else found["Raw"]) + "\n")


def _described(found: dict[str, Any]) -> Any:
    """Every manifest with where it is from, as `--verbose` shows it."""
    if found["Manifests"]:
        return [_entry(each) for each in found["Manifests"]]
    return _entry(found)


def _entry(found: dict[str, Any]) -> dict[str, Any]:
    from wherry.client.lean import loads

    media_type = found["Descriptor"]["mediaType"]
    kind = "SchemaV2Manifest" if media_type == _DOCKER_MANIFEST else "OCIManifest"
    return {"Ref": found["Ref"], "Descriptor": found["Descriptor"], kind: loads(found["Raw"])}


def _indented(value: Any) -> str:
    import json

    return json.dumps(json.loads(value) if isinstance(value, str) else value, indent="\t", ensure_ascii=False)


INSPECT = Command(
    "inspect [OPTIONS] [MANIFEST_LIST] MANIFEST",
    "Display an image manifest, or manifest list",
    run_inspect,
    flags=[
        flags.switch("insecure", "", "Allow communication with an insecure registry"),
        flags.switch("verbose", "v", "Output additional info including layers and platform"),
    ],
    arguments=between(1, 2),
)
