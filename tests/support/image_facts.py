"""What an image is, out of the archive that ``save`` makes: its configuration, and its files as its layers add up.

The same for every engine, so that what one builds can be compared with what another one does.
"""

import functools
import hashlib
import json
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

Entry = list[Any]
"""Kind, mode, owner, group, and the content's digest, the link's target or the device; extended attributes, if any.

Names of one file (hard links) have the very same list.
"""

Files = dict[str, Entry]

# Of the configuration: what a Dockerfile can say.
CONFIG = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Shell",
    "Healthcheck", "OnBuild",
)  # fmt: skip

# What the contexts' files of these names are to have: git keeps no more of a mode than whether a file is executable.
_MODES = {"a.txt": 0o640, "c.txt": 0o600}

_XATTR = "SCHILY.xattr."


def restore_modes(context: Path) -> None:
    """Gives a checked-out context the modes that the facts were made with."""
    for path in context.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
        elif not path.is_symlink():
            path.chmod(_MODES.get(path.name, 0o755 if path.stat().st_mode & 0o100 else 0o644))


def facts(archive: Path, base: Path) -> dict[str, Any]:
    """What the image in ``archive`` is, and has over that in ``base``: None is a file that is gone.

    An image that does not stand upon ``base`` is told of whole.
    """
    with _Saved(archive) as image:
        start, own = _upon(base, image.config)
        before = start[0]
        after = image.files(dict(before), own)
        changed: dict[str, Any] = {name: value for name, value in after.items() if before.get(name) != value}
        changed |= {name: None for name in before if name not in after}
        return {
            "platform": [image.config["os"], image.config["architecture"], image.config.get("variant", "")],
            "config": {name: image.config["config"].get(name) or None for name in CONFIG},
            "author": image.config.get("author", ""),
            "history": [step.get("created_by", "") for step in image.config.get("history", [])[start[1] :]],
            "files": _without_busybox(dict(sorted(changed.items())), base),
            "hard links": _hard_links(after, changed),
        }


class _Saved:
    def __init__(self, archive: Path) -> None:
        self._tar = tarfile.open(archive)  # noqa: SIM115  # __exit__ closes it
        (self._image,) = json.loads(self._read("manifest.json"))
        self.config = json.loads(self._read(self._image["Config"]))

    def __enter__(self) -> "_Saved":
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def files(self, found: Files, first: int = 0) -> Files:
        """``found``, and upon it the layers from number ``first`` on."""
        for layer in self._image["Layers"][first:]:
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


def _upon(base: Path, config: dict[str, Any]) -> tuple[tuple[Files, int], int]:
    """What an image begins with, files and lines of history, and the number of its first own layer."""
    files, layers, lines = _base(base)
    if config["rootfs"]["diff_ids"][: len(layers)] != list(layers):
        return ({}, 0), 0
    return (files, lines), len(layers)


def _without_busybox(files: dict[str, Any], base: Path) -> dict[str, Any]:
    """Copies of the base's own program told by its name: it is another on every distribution."""
    program = _base(base)[0].get("bin/busybox", [])[4:5]
    return {
        name: [*entry[:4], "busybox", *entry[5:]] if entry and entry[4:5] == program else entry
        for name, entry in files.items()
    }


@functools.cache
def _base(archive: Path) -> tuple[Files, tuple[str, ...], int]:
    with _Saved(archive) as image:
        return image.files({}), tuple(image.config["rootfs"]["diff_ids"]), len(image.config.get("history", []))


def _apply(found: Files, tar: tarfile.TarFile) -> None:
    new: Files = {}
    for member in tar:
        name = _name(member.name)
        parent, _, base = name.rpartition("/")
        if base == ".wh..wh..opq":
            _remove_below(found, parent)
        elif base.startswith(".wh."):
            gone = f"{parent}/{base[4:]}".lstrip("/")
            found.pop(gone, None)
            _remove_below(found, gone)
        elif name not in ("", "."):
            new[name] = new[_name(member.linkname)] if member.islnk() else _describe(tar, member)
    for name, value in new.items():
        if value[0] != "directory" and found.get(name, value)[0] == "directory":
            _remove_below(found, name)
    found |= new


def _name(written: str) -> str:
    return written.strip("/").removeprefix("./").strip("/")


def _remove_below(found: Files, directory: str) -> None:
    for name in [name for name in found if name.startswith(f"{directory}/")]:
        del found[name]


def _describe(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    owner = [f"{member.mode & 0o7777:o}", member.uid, member.gid]
    entry: Entry
    if member.isdir():
        entry = ["directory", *owner, ""]
    elif member.issym():
        entry = ["link", "777", member.uid, member.gid, member.linkname]
    elif member.isreg():
        opened = tar.extractfile(member)
        assert opened is not None
        entry = ["file", *owner, hashlib.sha256(opened.read()).hexdigest()[:16]]
    else:
        entry = [f"type {member.type.decode()}", *owner, f"{member.devmajor}:{member.devminor}"]
    attributes = {
        name.removeprefix(_XATTR): value.encode(errors="surrogateescape").hex()
        for name, value in sorted(member.pax_headers.items())
        if name.startswith(_XATTR)
    }
    return [*entry, attributes] if attributes else entry


def _hard_links(files: Files, changed: dict[str, Any]) -> list[list[str]]:
    """The names of each changed file that has several."""
    names = defaultdict(list)
    for name, entry in files.items():
        if name in changed:
            names[id(entry)].append(name)
    return sorted(sorted(each) for each in names.values() if len(each) > 1)
