"""Volumes on disk: ``volumes/<name>/_data``, with a row each in the state database."""

import os
import re
import shutil
from collections.abc import Mapping

import msgspec

from wherry.model.errors import InvalidParameter, NotFound
from wherry.model.volume import Volume
from wherry.storage.database import Database

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_OPTIONS = ("type", "o", "device", "size")


class Volumes:
    """The volumes of one data root. A volume is there from the moment its row is; a folder without one is swept."""

    def __init__(self, root: str, database: Database) -> None:
        self._root = f"{root}/volumes"
        self._database = database
        database.migrate("volumes", ["CREATE TABLE volumes (name TEXT PRIMARY KEY, body BLOB NOT NULL)"])
        os.makedirs(self._root, mode=0o701, exist_ok=True)
        decoder = msgspec.json.Decoder(Volume)
        rows = database.query("SELECT body FROM volumes")
        self._volumes = {volume.name: volume for volume in (decoder.decode(body) for (body,) in rows)}
        for name in set(os.listdir(self._root)) - set(self._volumes):
            shutil.rmtree(f"{self._root}/{name}", ignore_errors=True)

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
            _check_options(volume.options)
            os.makedirs(f"{self._root}/{volume.name}", mode=0o701, exist_ok=True)
            os.makedirs(self.path(volume.name), mode=0o755, exist_ok=True)
        self._database.execute(
            "INSERT INTO volumes (name, body) VALUES (?, ?)", (volume.name, msgspec.json.encode(volume))
        )
        self._volumes[volume.name] = volume
        return volume

    def remove(self, name: str) -> None:
        """Removes a volume and what is in it. The row goes first: what a crash leaves of the folder is swept."""
        self.get(name)
        self._database.execute("DELETE FROM volumes WHERE name = ?", (name,))
        del self._volumes[name]
        shutil.rmtree(f"{self._root}/{name}", ignore_errors=True)

    def size(self, name: str) -> int:
        """Bytes that the volume's files take, hard links once; -1 for one whose files are a plug-in's."""
        if self.get(name).driver != "local":
            return -1
        return _tree_size(self.path(name))

    def is_empty(self, name: str) -> bool:
        with os.scandir(self.path(name)) as entries:
            return next(entries, None) is None


def check_name(name: str) -> None:
    """Raises InvalidParameter in Docker's words."""
    if len(name) < 2:
        raise InvalidParameter(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def _check_options(options: Mapping[str, str]) -> None:
    for name in options:
        if name not in _OPTIONS:
            raise InvalidParameter(f'invalid option: "{name}"')
    if ("o" in options or "type" in options) and "device" not in options:
        raise InvalidParameter('missing required option: "device"')
    if "device" in options and "type" not in options and "bind" not in options.get("o", "").split(","):
        raise InvalidParameter('missing required option: "type"')
    if "size" in options:
        raise InvalidParameter("quota size requested but no quota support")


def _tree_size(root: str) -> int:
    seen: set[tuple[int, int]] = set()
    total = 0
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_size
    return total
