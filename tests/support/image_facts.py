"""What an image is, out of the archive that ``save`` makes: its configuration, and its files as its layers add up.

The same for every engine, so that what one builds can be compared with what another one does.
"""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

Files = dict[str, list[Any]]

# Of the configuration: what a Dockerfile can say.
CONFIG = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Shell",
    "Healthcheck", "OnBuild",
)  # fmt: skip

# What the contexts' files of these names are to have: git keeps no more of a mode than whether a file is executable.
_MODES = {"a.txt": 0o640, "c.txt": 0o600}


def restore_modes(context: Path) -> None:
    """Gives a checked-out context the modes that the facts were made with."""
    for path in context.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
        elif not path.is_symlink():
            path.chmod(_MODES.get(path.name, 0o755 if path.stat().st_mode & 0o100 else 0o644))


def facts(archive: Path, base: Path) -> dict[str, Any]:
    """What the image in ``archive`` has over that in ``base``: configuration, history and files (None is gone)."""
    image, start = _Saved(archive), _Saved(base)
    before, after = start.files(), image.files()
    changed: dict[str, Any] = {name: value for name, value in after.items() if before.get(name) != value}
    changed |= {name: None for name in before if name not in after}
    own = image.config.get("history", [])[len(start.config.get("history", [])) :]
    return {
        "config": {name: image.config["config"].get(name) or None for name in CONFIG},
        "author": image.config.get("author", ""),
        "history": [step.get("created_by", "") for step in own],
        "files": dict(sorted(changed.items())),
    }


class _Saved:
    def __init__(self, archive: Path) -> None:
        self._tar = tarfile.open(archive)  # noqa: SIM115  # it lives as long as this
        (self._image,) = json.loads(self._read("manifest.json"))
        self.config = json.loads(self._read(self._image["Config"]))

    def files(self) -> Files:
        """Each path's kind, mode, owner, group, and its content's digest, its target or its device."""
        found: Files = {}
        for layer in self._image["Layers"]:
            opened = self._tar.extractfile(self._follow(layer))
            assert opened is not None
            with tarfile.open(fileobj=opened) as tar:
                _apply(found, tar)
        return found

    def _read(self, name: str) -> bytes:
        opened = self._tar.extractfile(self._follow(name))
        assert opened is not None
        return opened.read()

    def _follow(self, name: str) -> tarfile.TarInfo:
        """Older engines write the same layer once, and links to it."""
        member = self._tar.getmember(name)
        while member.issym():
            target = Path(member.name).parent / member.linkname
            parts: list[str] = []
            for part in target.parts:
                parts = parts[:-1] if part == ".." else [*parts, part]
            member = self._tar.getmember("/".join(parts))
        return member


def _apply(found: Files, tar: tarfile.TarFile) -> None:
    new: Files = {}
    for member in tar:
        name = member.name.strip("/").removeprefix("./").strip("/")
        parent, _, base = name.rpartition("/")
        if base == ".wh..wh..opq":
            _remove_below(found, parent)
        elif base.startswith(".wh."):
            gone = f"{parent}/{base[4:]}".lstrip("/")
            found.pop(gone, None)
            _remove_below(found, gone)
        elif name not in ("", "."):
            new[name] = _describe(tar, member, new)
    for name, value in new.items():
        if value[0] != "directory":
            _remove_below(found, name)
    found |= new


def _remove_below(found: Files, directory: str) -> None:
    for name in [name for name in found if name.startswith(f"{directory}/")]:
        del found[name]


def _describe(tar: tarfile.TarFile, member: tarfile.TarInfo, new: Files) -> list[Any]:
    owner = [f"{member.mode & 0o7777:o}", member.uid, member.gid]
    if member.islnk():
        return new[member.linkname.strip("/").removeprefix("./")]
    if member.isdir():
        return ["directory", *owner, ""]
    if member.issym():
        return ["link", "777", member.uid, member.gid, member.linkname]
    if member.isreg():
        opened = tar.extractfile(member)
        assert opened is not None
        return ["file", *owner, hashlib.sha256(opened.read()).hexdigest()[:16]]
    return [f"type {member.type.decode()}", *owner, f"{member.devmajor}:{member.devminor}"]
