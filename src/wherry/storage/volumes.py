"""Volumes on disk: ``volumes/<name>/_data``, with a row each in the state database.

The row is written first and goes first. What an engine that was killed has left of one that it was making is made
whole at the next start; a folder without a row (of a removal that did not come to its end, or out of a backup) is taken
up as it is: nobody's data is thrown away because a row is missing. What is being removed has no name any more.
"""

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping

import msgspec

from wherry.common.errors import InvalidParameter, NotFound
from wherry.common.sizes import parse_size
from wherry.linux import host_mounts
from wherry.model.container import Volume
from wherry.storage.database import Database
from wherry.storage.staging import Staging, remove_tree, remove_tree_quietly

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_MADE_UP_NAME = re.compile(r"[0-9a-f]{64}")
_NAME_AT_MOST = 255
_OPTIONS = ("type", "o", "device", "size")


class Volumes:
    """The volumes of one data root."""

    def __init__(self, root: str, database: Database, staging: Staging) -> None:
        self._root = f"{root}/volumes"
        self._database = database
        database.migrate("volumes", ["CREATE TABLE volumes (name TEXT PRIMARY KEY, body BLOB NOT NULL)"])
        os.makedirs(self._root, mode=0o710, exist_ok=True)
        decoder = msgspec.json.Decoder(Volume)
        rows = database.query("SELECT body FROM volumes")
        self._volumes = {volume.name: volume for volume in (decoder.decode(body) for (body,) in rows)}
        for name in os.listdir(self._root):
            if name.startswith("."):
                staging.remove_later(f"{self._root}/{name}")
            elif name not in self._volumes and os.path.isdir(self.path(name)):
                created = os.stat(f"{self._root}/{name}").st_mtime_ns
                self._write(Volume(name, created, anonymous=_MADE_UP_NAME.fullmatch(name) is not None))
        for volume in self._volumes.values():
            if volume.driver == "local":
                with contextlib.suppress(OSError):  # of a link to a disk that is not there: its users will be told
                    self._make_folder(volume.name)

    def __contains__(self, name: str) -> bool:
        return name in self._volumes

    def list_all(self) -> list[Volume]:
        return sorted(self._volumes.values(), key=lambda volume: volume.name)

    def get(self, name: str) -> Volume:
        """Raises NotFound in Docker's words."""
        try:
            return self._volumes[name]
        except KeyError:
            raise NotFound(f"get {name}: no such volume") from None

    def path(self, name: str) -> str:
        """The folder that holds the volume's files."""
        return f"{self._root}/{name}/_data"

    def create(self, volume: Volume) -> Volume:
        """Makes a volume, or gives the one that is there. Raises InvalidParameter for a bad name or option."""
        check_name(volume.name)
        if volume.name in self._volumes:
            return self._volumes[volume.name]
        if volume.driver == "local":
            _check_options(volume.name, volume.options or {})
        self._write(volume)
        if volume.driver == "local":
            try:
                self._make_folder(volume.name)
            except OSError:
                self._forget(volume.name)
                raise
        return volume

    async def remove(self, name: str) -> None:
        """Removes a volume and what is in it."""
        self.get(name)
        gone = f"{self._root}/.{secrets.token_hex(8)}"
        self._forget(name)
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{self._root}/{name}", gone)
            await asyncio.to_thread(remove_tree_quietly, gone)

    @contextlib.contextmanager
    def filling(self, name: str, *, alone: bool) -> Iterator[str]:
        """A directory to put together what is to be in an empty volume, which then gets all of it or nothing.

        Where others may have the volume mounted, and where it is really elsewhere, it is the volume's own directory.
        """
        path = self.path(name)
        if not alone or os.path.islink(path) or host_mounts.is_mounted(path):
            yield path
            return
        made = f"{self._root}/{name}/_new"
        remove_tree(made)
        os.mkdir(made, 0o755)
        try:
            yield made
            os.rename(made, path)
        finally:
            remove_tree_quietly(made)

    def _write(self, volume: Volume) -> None:
        self._database.execute(
            "INSERT INTO volumes (name, body) VALUES (?, ?)", (volume.name, msgspec.json.encode(volume))
        )
        self._volumes[volume.name] = volume

    def _forget(self, name: str) -> None:
        self._database.execute("DELETE FROM volumes WHERE name = ?", (name,))
        del self._volumes[name]

    def _make_folder(self, name: str) -> None:
        os.makedirs(f"{self._root}/{name}", mode=0o710, exist_ok=True)
        os.makedirs(self.path(name), mode=0o755, exist_ok=True)

    def size(self, name: str) -> int:
        """Bytes that the files of a local volume take, hard links once."""
        return _tree_size(self.path(name))


def check_name(name: str) -> None:
    """Raises InvalidParameter in Docker's words."""
    if len(os.fsencode(name)) < 2:
        raise InvalidParameter(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if len(os.fsencode(name)) > _NAME_AT_MOST:
        raise InvalidParameter(f"create {name}: a volume's name has {_NAME_AT_MOST} characters at most")
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def _check_options(volume: str, options: Mapping[str, str]) -> None:
    invalid = f"create {volume}: "
    for name in options:
        if name not in _OPTIONS:
            raise InvalidParameter(f'{invalid}invalid option: "{name}"')
    if ("o" in options or "type" in options) and "device" not in options:
        raise InvalidParameter(f'{invalid}missing required option: "device"')
    if "device" in options and "type" not in options:
        raise InvalidParameter(f'{invalid}missing required option: "type"')
    if "size" in options:
        try:
            parse_size(options["size"])
        except ValueError as error:
            raise InvalidParameter(f"{invalid}{error}") from None
        raise InvalidParameter(f"{invalid}quota size requested but no quota support")


def _tree_size(root: str) -> int:
    """What containers take away meanwhile is not counted."""
    seen: set[tuple[int, int]] = set()
    total = 0
    pending = [root]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif (status.st_dev, status.st_ino) not in seen:
                        seen.add((status.st_dev, status.st_ino))
                        total += status.st_size
    return total
