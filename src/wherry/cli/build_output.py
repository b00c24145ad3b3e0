"""`build`: where its result goes beside the engine's store, and what is attested of it."""

from __future__ import annotations

import binascii
import os
import sys

from wherry.cli import terminal
from wherry.cli.session import CommandError, OutputFile
from wherry.client.streams import pass_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.session import Session
    from wherry.client.blocking import Response
    from wherry.common.flags import Options

_KINDS = ("local", "tar", "oci", "docker", "image", "registry")
_FIELDS = (
    "compression", "compression-level", "force-compression", "oci-mediatypes", "rewrite-timestamp", "push", "tar",
    "push-by-digest", "registry.insecure", "unpack",
)  # fmt: skip
_CACHES = ("inline", "registry", "local")


def _fields(text: str, flag: str) -> dict[str, str]:
    """`type=…,key=value`; a field with a comma in it stands in quotes. Raises CommandError."""
    from wherry.common import key_values

    found = {}
    for part in key_values.fields(text):
        name, equals, value = part.partition("=")
        if not equals:
            raise CommandError(f"invalid value {text} of --{flag}: expected fields like type=…")
        found[name.strip()] = value
    return found


class Output:
    """One of them. `path` is "-" for standard output."""

    def __init__(self, text: str) -> None:
        """Raises CommandError."""
        if "=" not in text:
            text = f"type=tar,dest={text}" if text == "-" else f"type=local,dest={text}"
        self.attributes = _fields(text, "output")
        self.kind = self.attributes.pop("type", "")
        self.path = self.attributes.pop("dest", "")
        self.names = [name for name in self.attributes.pop("name", "").split(",") if name]
        if self.kind not in _KINDS:
            raise CommandError(f'invalid output type "{self.kind}": expected one of {", ".join(_KINDS)}')
        known = (*_FIELDS, "annotation")
        if unknown := [name for name in self.attributes if name not in _FIELDS and not name.startswith("annotation")]:
            raise CommandError(f'--output has no field "{unknown[0]}": expected one of {", ".join(known)}')
        if self.kind == "registry":
            self.kind = "image"
            self.attributes["push"] = "true"
        if self.attributes.pop("tar", "true") != "true":
            if self.kind != "oci":
                raise CommandError(f"tar=false is not for the output {self.kind}: expected oci")
            self.kind = "layout"
        if self.kind in ("local", "layout") and (not self.path or self.path == "-"):
            raise CommandError("dest is required for the local output")
        if self.kind in ("tar", "oci") and not self.path:
            self.path = "-"
        if self.path == "-" and terminal.is_terminal(terminal.STDOUT):
            raise CommandError("dest file is required for this output. refusing to write to console")

    @property
    def keeps_image(self) -> bool:
        """Whether the image is meant to stay in the engine."""
        return self.kind == "image" or (self.kind == "docker" and not self.path)


class Exports:
    """All that is to become of a build."""

    def __init__(self, options: Options) -> None:
        """Raises CommandError."""
        texts = list(options["output"])
        texts += ["type=registry"] if options["push"] else []
        texts += ["type=docker"] if options["load"] else []
        self.outputs = [Output(text) for text in texts]
        self._attest = _attestations(options)
        self._annotations = dict(_annotation(text) for text in options["annotation"])
        self._caches = [each for each in map(_cache, options["cache-to"]) if each["type"] != "inline"]
        self._metadata: dict[str, Any] = {}
        self._metadata_file: str = options["metadata-file"]

    @property
    def names(self) -> list[str]:
        return [name for output in self.outputs for name in output.names]

    @property
    def keeps_image(self) -> bool:
        return any(output.keeps_image for output in self.outputs)

    @property
    def uses_stdout(self) -> bool:
        return any(output.path == "-" for output in self.outputs)

    def write(self, session: Session, built: dict[str, Any]) -> None:
        """Raises CommandError."""
        names = [str(name) for name in built["names"]]
        self._metadata = {"containerimage.config.digest": built["id"], "containerimage.digest": built["id"]}
        if names:
            self._metadata["image.name"] = ",".join(names)
        outputs = self.outputs
        if not outputs and (self._attest or self._annotations) and names:
            outputs = [Output("type=image")]  # the names are to stand for more than the image
        for output in outputs:
            try:
                self._write(session, built, output, output.names or names)
            except ValueError as error:
                raise CommandError(str(error)) from None
        for cache in self._caches:
            self._write_cache(session, built, dict(cache))
        if self._metadata_file:
            from wherry.client.c_modules import dumps

            with OutputFile(self._metadata_file) as descriptor:
                os.write(descriptor, dumps(self._metadata) + b"\n")

    def _ask(
        self, session: Session, built: dict[str, Any], kind: str, names: list[str], said: dict[str, str]
    ) -> Response:
        from wherry.cli.auth import header_of_all
        from wherry.client.c_modules import dumps

        auth = header_of_all(session.config)
        body = {"token": built["token"], "type": kind, "names": names, "attributes": said, "attest": self._attest}
        headers = {"Content-Type": "application/json", **({"X-Registry-Config": auth} if auth else {})}
        return session.client.request("POST", "/build/export", data=[dumps(body)], headers=headers)

    def _write(self, session: Session, built: dict[str, Any], output: Output, names: list[str]) -> None:
        said = {**output.attributes, **self._annotations}
        if output.keeps_image:
            if said or self._attest:
                self._follow(self._ask(session, built, "image", names, said))
            return
        kind = {"local": "tar", "layout": "oci"}.get(output.kind, output.kind)
        response = self._ask(session, built, kind, names, said)
        if exported := response.headers.get("x-wherry-exported", ""):
            from wherry.client.c_modules import loads

            self._metadata |= loads(binascii.a2b_base64(exported))
        if output.kind in ("local", "layout"):
            _unpack(response, output.path)
        elif output.path == "-":
            pass_on(response, terminal.STDOUT)
        else:
            with OutputFile(output.path) as descriptor:
                pass_on(response, descriptor)

    def _write_cache(self, session: Session, built: dict[str, Any], cache: dict[str, str]) -> None:
        directory = cache.pop("dest", "") if cache.pop("type") == "local" else ""
        response = self._ask(session, built, "cache", [], cache)
        if directory:
            _unpack(response, directory)
        else:
            self._follow(response)

    def _follow(self, response: Response) -> None:
        """Shows a push; what the metadata say of it. Raises CommandError when it fails."""
        for message in response.values():
            if "errorDetail" in message:
                raise CommandError(message["errorDetail"]["message"])
            if "exported" in message:
                self._metadata |= message["exported"]
            elif not message.get("progressDetail") and message.get("status"):
                name = f"{message['id']}: " if message.get("id") else ""
                sys.stderr.write(f"{name}{message['status']}\n")


def _attestations(options: Options) -> dict[str, str]:
    """BuildKit's options by what --attest, --sbom and --provenance say. Raises CommandError."""
    found = {}
    for text in options["attest"]:
        fields = _fields(text, "attest")
        found[fields.pop("type", "")] = fields
    for kind in ("sbom", "provenance"):
        text = options[kind]
        if text in ("true", "1"):
            found[kind] = {}
        elif text in ("false", "0"):
            found[kind] = {"disabled": "true"}
        elif text:
            found[kind] = _fields(text if "=" in text else f"mode={text}", kind)
    if unknown := set(found) - {"sbom", "provenance"}:
        raise CommandError(f"attestation of type {min(unknown)} is not supported: expected provenance or sbom")
    wanted = {kind: fields for kind, fields in found.items() if fields.get("disabled") != "true"}
    return {
        f"attest:{kind}": ",".join(f"{name}={value}" for name, value in fields.items())
        for kind, fields in wanted.items()
    }


def _annotation(text: str) -> tuple[str, str]:
    """`key=value`, or `index:key=value`, `manifest[linux/arm64]:key=value`, … as an exporter's attribute."""
    key, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"invalid annotation {text}: expected key=value")
    where, colon, name = key.partition(":")
    kinds = ("index", "manifest", "index-descriptor", "manifest-descriptor")
    if colon and where.partition("[")[0] in kinds:
        return f"annotation-{where}.{name}", value
    return f"annotation.{key}", value


def _cache(text: str) -> dict[str, str]:
    """Raises CommandError."""
    fields = _fields(text, "cache-to") if "=" in text else {"type": "inline"} if text == "inline" else {"ref": text}
    fields.setdefault("type", "registry")
    kind = fields["type"]
    if kind not in _CACHES:
        raise CommandError(f"cache export of type {kind} is not supported: expected {', '.join(_CACHES)}")
    needed = {"registry": "ref", "local": "dest"}.get(kind, "type")
    if not fields.get(needed):
        raise CommandError(f"--cache-to {text}: expected {needed}=")
    return fields


def _unpack(response: Response, directory: str) -> None:
    from wherry.cli.tar import Unpacker

    os.makedirs(directory, exist_ok=True)
    Unpacker(directory).unpack(lambda: memoryview(response.piece()))
