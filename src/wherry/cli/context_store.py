"""docker's contexts on disk: named engines, which docker and wherry share.

Below the configuration's directory: contexts/meta/<sha256 of the name>/meta.json, and the keys beside it in
contexts/tls/<the same>/docker. Which of them is current stands in config.json.
"""

from __future__ import annotations

import os
from hashlib import sha256

from wherry.cli.session import CommandError, change_config, reason, write_config
from wherry.client.c_modules import loads
from wherry.client.endpoint import TLS
from wherry.common.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT = "default"
ROOTLESS = "rootless"
NAME = "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"
KEY_FILES = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}

_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


class Context:
    """`metadata` is what meta.json holds; `tls` the directory of its keys."""

    def __init__(self, metadata: dict[str, Any], directory: str, tls: str) -> None:
        self.metadata, self.directory, self.tls = metadata, directory, tls

    @property
    def name(self) -> str:
        return str(self.metadata.get("Name") or "")

    @property
    def description(self) -> str:
        return str((self.metadata.get("Metadata") or {}).get("Description") or "")

    @property
    def endpoint(self) -> dict[str, Any]:
        found: dict[str, Any] = (self.metadata.get("Endpoints") or {}).get("docker") or {}
        return found

    @property
    def host(self) -> str:
        return str(self.endpoint.get("Host") or "")

    def key_files(self) -> dict[str, str]:
        """The paths of those that are there."""
        paths = {name: os.path.join(self.tls, "docker", file) for name, file in KEY_FILES.items()}
        return {name: path for name, path in paths.items() if os.path.exists(path)}

    def security(self) -> TLS | None:
        files, insecure = self.key_files(), bool(self.endpoint.get("SkipTLSVerify"))
        if not files and not insecure:
            return None
        return TLS(*(files.get(name, "") for name in KEY_FILES), verify=not insecure)


class Store:
    """The contexts below docker's directory of configuration."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def _paths(self, name: str) -> tuple[str, str]:
        digest = sha256(name.encode()).hexdigest()
        below = os.path.join(self._directory, "contexts")
        return os.path.join(below, "meta", digest), os.path.join(below, "tls", digest)

    def get(self, name: str) -> Context:
        """Raises CommandError, in docker's words, for one that is not there or cannot be read."""
        meta, tls = self._paths(name)
        path = os.path.join(meta, "meta.json")
        try:
            with open(path, "rb") as file:
                found = loads(file.read())
            if not isinstance(found, dict):
                raise ValueError("not an object")
        except FileNotFoundError:
            raise CommandError(
                f"context {quoted(name)}: context not found: open {path}: no such file or directory"
            ) from None
        except (OSError, ValueError) as error:
            raise CommandError(f"context {quoted(name)}: {error}") from None
        return Context(found, meta, tls)

    def __contains__(self, name: str) -> bool:
        return os.path.exists(os.path.join(self._paths(name)[0], "meta.json"))

    def all(self) -> list[Context]:
        """All that can be read, by name."""
        below = os.path.join(self._directory, "contexts", "meta")
        try:
            digests = os.listdir(below)
        except FileNotFoundError:
            return []
        found = []
        for digest in digests:
            try:
                with open(os.path.join(below, digest, "meta.json"), "rb") as file:
                    metadata = loads(file.read())
            except (OSError, ValueError):
                continue
            tls = os.path.join(self._directory, "contexts", "tls", digest)
            found.append(Context(metadata, os.path.join(below, digest), tls))
        return sorted(found, key=lambda context: context.name)

    def put(self, metadata: dict[str, Any], keys: dict[str, bytes]) -> None:
        """Keeps a context; `keys` are the contents of key files by their names in KEY_FILES."""
        import json

        meta, tls = self._paths(metadata["Name"])
        try:
            if keys:
                directory = os.path.join(tls, "docker")
                os.makedirs(directory, mode=0o700, exist_ok=True)
                for name, content in keys.items():
                    write_config(os.path.join(directory, KEY_FILES[name]), content)
            os.makedirs(meta, mode=0o755, exist_ok=True)
            write_config(os.path.join(meta, "meta.json"), json.dumps(metadata, separators=(",", ":")).encode(), 0o644)
        except OSError as error:
            raise CommandError(f"{error.filename}: {reason(error)}") from None

    def remove(self, name: str) -> None:
        import shutil

        for path in self._paths(name):
            shutil.rmtree(path, ignore_errors=True)


def check_name(name: str) -> None:
    """Raises CommandError, in docker's words, for what no context can be called."""
    if name == DEFAULT:
        raise CommandError(f"{quoted(name)} is a reserved context name")
    check_form(name)


def check_form(name: str) -> None:
    """The same, but for the reserved name."""
    if not name:
        raise CommandError("context name cannot be empty")
    if len(name) < 2 or name[0] not in _LETTERS or not _LETTERS.union("_.+-").issuperset(name):
        raise CommandError(f"context name {quoted(name)} is invalid, names are validated against regexp {quoted(NAME)}")


def save_current(directory: str, name: str) -> None:
    """Writes into config.json which context is current."""

    def alter(config: dict[str, Any]) -> None:
        config.pop("currentContext", None)
        if name != DEFAULT:
            config["currentContext"] = name

    try:
        change_config(directory, alter)
    except OSError as error:
        raise CommandError(f"{error.filename or directory}: {reason(error)}") from None
