"""`manifest inspect`: what a name leads to in its registry, without pulling it."""

from __future__ import annotations

import json
import sys
from base64 import b64decode

from wherry.cli import flags
from wherry.cli.command import CommandError, Session, command
from wherry.cli.flags import Options
from wherry.client.errors import APIError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@command(
    flags.switch("insecure", "", "Allow communication with an insecure registry"),
    flags.switch("verbose", "v", "Output additional info including layers and platform"),
)
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
    try:
        found: dict[str, Any] = session.client.request(
            "GET",
            f"/distribution/{quote(path, '/:@')}/manifest",
            query={"insecure": options["insecure"]},
            headers={"X-Registry-Auth": auth} if auth else {},
        ).json()
    except APIError as error:
        if error.status == 404:
            raise CommandError(f"no such manifest: {path}") from None
        raise
    shown = _described(found) if options["verbose"] else _document(found)
    sys.stdout.write(json.dumps(shown, indent="\t", ensure_ascii=False) + "\n")


def _described(found: dict[str, Any]) -> Any:
    """Every manifest with where it is from, as `--verbose` shows it."""
    return [_entry(each) for each in found["Manifests"]] or _entry(found)


def _entry(found: dict[str, Any]) -> dict[str, Any]:
    media_type = found["Descriptor"]["mediaType"]
    kind = "SchemaV2Manifest" if media_type == _DOCKER_MANIFEST else "OCIManifest"
    return {name: found[name] for name in ("Ref", "Descriptor", "Raw")} | {kind: _document(found)}


def _document(found: dict[str, Any]) -> Any:
    return json.loads(b64decode(found["Raw"]))
