"""`--output`: where the result goes beside the engine: a folder, a tar of files, an archive of the image."""

from __future__ import annotations

import os

from wherry.cli import terminal
from wherry.cli.command import CommandError
from wherry.cli.output_file import OutputFile
from wherry.client.streams import pass_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.client import Client
    from wherry.client.connection import Response

_KINDS = ("local", "tar", "oci", "docker", "image")
_FIELDS = ("type", "dest", "name")


class Output:
    """One of them. `path` is "-" for standard output."""

    def __init__(self, text: str) -> None:
        """Raises CommandError."""
        if "=" not in text:
            text = f"type=tar,dest={text}" if text == "-" else f"type=local,dest={text}"
        fields = dict(field.partition("=")[::2] for field in text.split(","))
        if unknown := [name for name in fields if name not in _FIELDS]:
            raise CommandError(f'--output has no field "{unknown[0]}": expected one of {", ".join(_FIELDS)}')
        self.kind = fields.get("type", "")
        self.path = fields.get("dest", "")
        self.name = fields.get("name", "")
        if self.kind not in _KINDS:
            raise CommandError(f'invalid output type "{self.kind}": expected one of {", ".join(_KINDS)}')
        if self.kind == "local" and (not self.path or self.path == "-"):
            raise CommandError("dest is required for the local output")
        if self.kind in ("tar", "oci") and not self.path:
            self.path = "-"
        if self.path == "-" and terminal.is_terminal(terminal.STDOUT):
            raise CommandError("dest file is required for this output. refusing to write to console")

    @property
    def keeps_image(self) -> bool:
        """Whether the image is meant to stay in the engine."""
        return self.kind == "image" or (self.kind == "docker" and not self.path)

    def write(self, client: Client, image: str, names: list[str]) -> None:
        if self.keeps_image:
            return
        if self.kind in ("oci", "docker"):
            self._save(client.request("GET", "/images/get", query={"names": names or [image]}))
            return
        files = client.request("GET", "/build/files", query={"image": image})
        if self.kind == "tar":
            self._save(files)
        else:
            _unpack(files, self.path)

    def _save(self, response: Response) -> None:
        if self.path == "-":
            pass_on(response, terminal.STDOUT)
            return
        with OutputFile(self.path) as descriptor:
            pass_on(response, descriptor)


def _unpack(response: Response, directory: str) -> None:
    from wherry.cli.copying.unpack import Unpacker

    os.makedirs(directory, exist_ok=True)
    Unpacker(directory).unpack(lambda: memoryview(response.piece()))
