"""Inside the worker: the packages that an image's files tell of.

What is read was put there by anybody: each file has its limit and so have all together, only ordinary files are opened,
and what cannot be read is passed over, without hiding anything else. Databases of dpkg, apk and rpm are known (of rpm
those in SQLite and in its own ndb), and what Python and npm leave beside their packages.
"""

import contextlib
import itertools
import json
import os
import stat
import struct
from collections.abc import Callable, Iterator
from typing import Any

from wherry.storage.worker import jobs
from wherry.storage.worker.layer import Report
from wherry.storage.worker.rootfs import enter

Package = dict[str, str]
"""``type`` as in package URLs, ``name``, ``version``; what else is known: ``architecture``, ``license``, ``source``."""

_LARGEST = 64 << 20
_LARGEST_IN_ALL = 512 << 20
_LARGEST_HEADER = 1 << 20  # of one package
_LONGEST = 1000
_MOST_INSTRUCTIONS = 10_000_000  # of SQLite's machine
_LARGEST_MEMBER = 4 << 20
_MOST_DIRECTORIES = 500_000
_MOST_PACKAGES = 100_000
_RPM_SQLITE = ("var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite")
_RPM_NDB = ("var/lib/rpm/Packages.db", "usr/lib/sysimage/rpm/Packages.db")
_RPM_TAGS = {1000: "name", 1001: "version", 1002: "release", 1003: "epoch", 1014: "license", 1022: "architecture"}
_RPM_STRINGS = (6, 9)
_RPM_INT32 = 4
_NDB_HEADER, _NDB_SLOT, _NDB_BLOB = struct.Struct("<4s7I"), struct.Struct("<4I"), struct.Struct("<4I")
_OF_THE_KERNEL = ("proc", "sys", "dev")


def scan(report: Report, job: jobs.ScanPackages) -> jobs.Packages:
    """The packages, and what /etc/os-release says."""
    # All of it now: nothing can be imported in there.
    import email.message
    import email.parser
    import sqlite3

    enter(job.root)
    files = Files()
    found: list[Package] = []
    parse = email.parser.HeaderParser().parsestr
    ways = (_dpkg(files), _apk(files), _rpm(sqlite3), _ndb(files), _beside_files(files, parse))
    for package in itertools.chain(*ways):
        if package.get("name"):
            found.append({key: str(value)[:_LONGEST] for key, value in package.items() if value})
        if len(found) == _MOST_PACKAGES:
            break
    return jobs.Packages(found, _release(files))


class Files:
    """Reads ordinary files: as many bytes as all of them together may have."""

    def __init__(self, left: int = _LARGEST_IN_ALL) -> None:
        self._left = left

    def read(self, path: str, limit: int = _LARGEST) -> bytes:
        """b"" for anything else, and for what is larger."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        with open(fd, "rb", buffering=0) as file:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > min(limit, self._left):
                return b""
            with contextlib.suppress(OSError):
                data = file.read(facts.st_size) or b""
                self._left -= len(data)
                return data
        return b""


def _release(files: Files) -> dict[str, str]:
    text = files.read("/etc/os-release", 1 << 16) or files.read("/usr/lib/os-release", 1 << 16)
    lines = (line.partition("=") for line in text.decode("utf-8", "replace").splitlines())
    return {key: value.strip("\"'") for key, _, value in lines if key in ("ID", "VERSION_ID", "PRETTY_NAME")}


# --- dpkg and apk


def _paragraphs(text: str, separator: str) -> Iterator[dict[str, str]]:
    for paragraph in text.split("\n\n", _MOST_PACKAGES):
        lines = (
            line.partition(separator)
            for line in paragraph[:_LARGEST_HEADER].split("\n")
            if not line.startswith((" ", "\t"))
        )
        yield {key: value.strip() for key, _, value in lines}


def _dpkg(files: Files) -> Iterator[Package]:
    # Images without a package manager have a file for each package
    names = [f"status.d/{name}" for name in _listed("/var/lib/dpkg/status.d") if not name.endswith(".md5sums")]
    for name in ("status", *names):
        for facts in _paragraphs(files.read(f"/var/lib/dpkg/{name}").decode("utf-8", "replace"), ":"):
            if "installed" in facts.get("Status", "installed").split():
                source = facts.get("Source", "").partition(" ")[0]
                yield _package(
                    "deb", facts.get("Package"), facts.get("Version"), facts.get("Architecture"), source=source
                )


def _apk(files: Files) -> Iterator[Package]:
    for path in ("/lib/apk/db/installed", "/usr/lib/apk/db/installed"):
        for facts in _paragraphs(files.read(path).decode("utf-8", "replace"), ":"):
            yield _package("apk", facts.get("P"), facts.get("V"), facts.get("A"), facts.get("L"), facts.get("o"))


def _package(
    kind: str, name: str | None, version: str | None, architecture: str | None = "", said: str | None = "",
    source: str | None = "",
) -> Package:  # fmt: skip
    return {
        "type": kind, "name": name or "", "version": version or "", "architecture": architecture or "",
        "license": said or "", "source": source or "",
    }  # fmt: skip


# --- rpm


def _rpm(sqlite: Any) -> Iterator[Package]:
    for path in _RPM_SQLITE:
        if _is_file(f"/{path}"):
            with contextlib.suppress(sqlite.Error), contextlib.closing(_open(f"/{path}", sqlite)) as database:
                rows = database.execute("SELECT blob FROM Packages WHERE length(blob) <= ?", (_LARGEST_HEADER,))
                for (blob,) in rows:
                    yield _rpm_package(bytes(blob) if isinstance(blob, bytes) else b"")


def _is_file(path: str) -> bool:
    try:
        facts = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_size <= _LARGEST_IN_ALL


def _open(path: str, sqlite: Any) -> Any:
    """A database of somebody else's: what it calls a table may be a query without end."""
    database = sqlite.connect(f"file:{path}?immutable=1", uri=True)
    database.execute("PRAGMA trusted_schema = OFF")
    spent = 0

    def spend() -> bool:
        nonlocal spent
        spent += _MOST_INSTRUCTIONS // 1000
        return spent > _MOST_INSTRUCTIONS

    database.set_progress_handler(spend, _MOST_INSTRUCTIONS // 1000)
    return database


def _ndb(files: Files) -> Iterator[Package]:
    for path in _RPM_NDB:
        yield from map(_rpm_package, _headers(files.read(f"/{path}")))


def _headers(data: bytes) -> Iterator[bytes]:
    """The headers in rpm's own database: pages of slots, of which each says where a header lies."""
    if len(data) < _NDB_HEADER.size or not data.startswith(b"RpmP"):
        return
    pages = _NDB_HEADER.unpack_from(data)[3]
    seen: set[int] = set()
    for at in range(2 * _NDB_SLOT.size, min(pages * 4096, len(data) - _NDB_SLOT.size), _NDB_SLOT.size):
        magic, number, offset, _ = _NDB_SLOT.unpack_from(data, at)
        if magic != 0x746F6C53 or not number or offset in seen:  # "Slot"
            continue
        seen.add(offset)
        place = offset * 16
        if place + _NDB_BLOB.size <= len(data):
            _, _, _, size = _NDB_BLOB.unpack_from(data, place)
            if size <= _LARGEST_HEADER:
                yield data[place + _NDB_BLOB.size : place + _NDB_BLOB.size + size]


def _rpm_package(header: bytes) -> Package:
    """Reads a header without its lead: a count of entries, a size, the entries, and what they point to. {} for none."""
    facts: dict[str, str] = {}
    try:
        count, size = struct.unpack_from(">II", header)
        store = 8 + 16 * count
        for number in range(min(count, 10_000)):
            tag, kind, offset, _ = struct.unpack_from(">IIII", header, 8 + 16 * number)
            if tag not in _RPM_TAGS or offset >= size:
                continue
            if kind in _RPM_STRINGS:
                text = header[store + offset : store + offset + _LONGEST].split(b"\0", 1)[0]
                facts[_RPM_TAGS[tag]] = text.decode("utf-8", "replace")
            elif kind == _RPM_INT32:
                facts[_RPM_TAGS[tag]] = str(struct.unpack_from(">I", header, store + offset)[0])
    except struct.error:
        return {}
    epoch = f"{facts['epoch']}:" if facts.get("epoch", "0") != "0" else ""
    version = f"{epoch}{facts.get('version', '')}-{facts.get('release', '')}"
    return _package("rpm", facts.get("name"), version, facts.get("architecture"), facts.get("license"))


# --- Python and npm


def _beside_files(files: Files, parse: Callable[[str], Any]) -> Iterator[Package]:
    for directory, names in _directories():
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                file = "METADATA" if name.endswith(".dist-info") else "PKG-INFO"
                text = files.read(f"{directory}/{name}/{file}", _LARGEST_MEMBER).decode("utf-8", "replace")
                yield _python(parse(text.partition("\n\n")[0]))
        if directory.endswith("/node_modules"):
            for name in names:
                scoped = [f"{name}/{each}" for each in _listed(f"{directory}/{name}")] if name[0] == "@" else [name]
                for each in scoped:
                    yield _npm(files.read(f"{directory}/{each}/package.json", _LARGEST_MEMBER))


def _directories() -> Iterator[tuple[str, list[str]]]:
    """The directories of the root with the names of those in them; of any depth, which os.walk is not before 3.12."""
    pending = [""]
    for _ in range(_MOST_DIRECTORIES):
        if not pending:
            return
        directory = pending.pop()
        names = []
        with contextlib.suppress(OSError), os.scandir(directory or "/") as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        if not directory:
            names = [name for name in names if name not in _OF_THE_KERNEL]
        yield directory, names
        pending += [f"{directory}/{name}" for name in reversed(names)]


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _python(facts: Any) -> Package:
    said = facts.get("License-Expression") or facts.get("License")
    return _package("pypi", facts.get("Name"), facts.get("Version"), said=said)


def _npm(text: bytes) -> Package:
    try:
        facts = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(facts, dict):
        return {}
    name, version, said = (facts.get(key) for key in ("name", "version", "license"))
    return _package("npm", *(each if isinstance(each, str) else "" for each in (name, version, "", said)))
