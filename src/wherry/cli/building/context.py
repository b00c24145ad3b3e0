"""What is built from: a folder, a tar on standard input, an address that the engine fetches itself.

A folder on the engine's own machine is named instead of sent, where the engine may trust this user: it runs as the same
one. Otherwise it is sent as a tar, without what .dockerignore leaves out.
"""

from __future__ import annotations

import os
import sys

from wherry.cli.command import CommandError
from wherry.cli.output_file import reason
from wherry.client.streams import read_pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.client.client import Client

_ADDRESSES = ("http://", "https://", "git://", "git@", "ssh://", "github.com/")


class Context:
    """`data` is the body of the request, None for none; `query` and `headers` are what the request says of it."""

    def __init__(
        self,
        data: Iterable[bytes | memoryview] | None = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.data = data
        self.query = query or {}
        self.headers = headers or {}


def find(client: Client, path: str, dockerfile: str) -> Context:
    """The context that the command line names, with its Dockerfile ("" for the usual one, "-" on standard input).

    Raises CommandError.
    """
    if path == "-":
        if dockerfile == "-":
            raise CommandError("invalid argument: can't use stdin for both build context and dockerfile")
        return Context(read_pieces(0), {"dockerfile": dockerfile} if dockerfile else {})
    if path.startswith(_ADDRESSES):
        if dockerfile == "-":
            raise CommandError("a Dockerfile on standard input needs a folder as its context")
        return Context(None, {"remote": path} | ({"dockerfile": dockerfile} if dockerfile else {}))
    directory = os.path.realpath(path)
    if not os.path.isdir(directory):
        raise CommandError(f'unable to prepare context: path "{path}" not found')
    name, text, ignore = _dockerfile(directory, dockerfile)
    if _is_on_this_machine(client):
        return _named(directory, name, text, ignore)
    from wherry.client.packing import OUTSIDE, pack

    if text is not None:
        return Context(pack(directory, OUTSIDE, text, ignore), {"dockerfile": OUTSIDE, "outside": name})
    return Context(pack(directory, name), {"dockerfile": name} if name else {})


def _dockerfile(directory: str, dockerfile: str) -> tuple[str, bytes | None, bytes | None]:
    """The Dockerfile's name in the context; when it is not in there, its text and that of a .dockerignore beside it."""
    if not dockerfile:
        return "", None, None
    if dockerfile == "-":
        return "Dockerfile", sys.stdin.buffer.read(), None
    path = os.path.realpath(dockerfile)
    if not os.path.isfile(path) and os.path.isfile(os.path.join(directory, dockerfile)):
        path = os.path.realpath(os.path.join(directory, dockerfile))
    relative = os.path.relpath(path, directory)
    if not relative.startswith("../") and os.path.exists(path):
        return relative, None, None
    try:
        with open(path, "rb") as file:
            text = file.read()
        if not os.path.isfile(f"{path}.dockerignore"):
            return os.path.basename(path), text, None
        with open(f"{path}.dockerignore", "rb") as file:
            return os.path.basename(path), text, file.read()
    except OSError as error:
        raise CommandError(f"unable to evaluate Dockerfile path: open {error.filename}: {reason(error)}") from None


def _is_on_this_machine(client: Client) -> bool:
    """Whether the engine listens on a unix socket that is this user's own."""
    if client.host.scheme != "unix":
        return False
    try:
        return os.stat(client.host.path).st_uid == os.geteuid()
    except OSError:
        return os.geteuid() == 0  # it is about to be started


def _named(directory: str, name: str, text: bytes | None, ignore: bytes | None) -> Context:
    facts = os.stat(directory)
    headers = {
        "X-Wherry-Context": _base64(os.fsencode(directory)),
        "X-Wherry-Context-Identity": f"{facts.st_dev}:{facts.st_ino}",
    }
    query = {"dockerfile": name} if name else {}
    if text is None:
        return Context(None, query, headers)
    import json

    headers["Content-Type"] = "application/json"
    outside = {"dockerfile": _base64(text), "ignore": None if ignore is None else _base64(ignore)}
    return Context([json.dumps(outside).encode()], query, headers)


def _base64(data: bytes) -> str:
    import binascii

    return binascii.b2a_base64(data, newline=False).decode()
