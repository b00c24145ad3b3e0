"""Inside the worker: the packages that an image's files tell of.

What is read was put there by anybody: each file has its limit, only ordinary files are opened, and what cannot be read
is passed over. Databases of dpkg, apk and rpm are known (of rpm those in SQLite and in its own ndb), and what
Python and npm leave beside their packages.
"""

import contextlib
import json
import os
import re
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
_LARGEST_MEMBER = 4 << 20
_MOST_DIRECTORIES = 500_000
_MOST_PACKAGES = 100_000
_RPM_SQLITE = ("var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite")
_RPM_NDB = ("var/lib/rpm/Packages.db", "usr/lib/sysimage/rpm/Packages.db")
_RPM_TAGS = {1000: "name", 1001: "version", 1002: "release", 1003: "epoch", 1014: "license", 1022: "architecture"}
_RPM_STRINGS = (6, 9)
_RPM_INT32 = 4
_NDB_HEADER, _NDB_SLOT, _NDB_BLOB = struct.Struct("<4s7I"), struct.Struct("<4I"), struct.Struct("<4I")
_PATHS = re.compile(r"(^|/)(proc|sys|dev)$")


def scan(report: Report, job: jobs.ScanPackages) -> jobs.Packages:
    """The packages, and what /etc/os-release says."""
    # All of it now: nothing can be imported in there.
    import email.message
    import email.parser
    import sqlite3

    enter(job.root)
    found: list[Package] = []
    parse = email.parser.HeaderParser().parsestr
    for read in (_dpkg, _apk, lambda: _rpm(sqlite3.connect), lambda: _beside_files(parse)):
        with contextlib.suppress(OSError, ValueError, struct.error, sqlite3.Error, RecursionError):
            for package in read():
                if package.get("name") and len(found) < _MOST_PACKAGES:
                    found.append({key: str(value)[:1000] for key, value in package.items() if value})
    return jobs.Packages(found, _release())


def _read(path: str, limit: int = _LARGEST) -> bytes:
    """An ordinary file; b"" for anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        data = file.read(limit + 1)
    return data if len(data) <= limit else b""


def _release() -> dict[str, str]:
    text = _read("/etc/os-release", 1 << 16) or _read("/usr/lib/os-release", 1 << 16)
    lines = (line.partition("=") for line in text.decode("utf-8", "replace").splitlines())
    return {key: value.strip("\"'") for key, _, value in lines if key in ("ID", "VERSION_ID", "PRETTY_NAME")}


# --- dpkg and apk


def _paragraphs(text: str, separator: str) -> Iterator[dict[str, str]]:
    for paragraph in text.split("\n\n"):
        lines = (line.partition(separator) for line in paragraph.split("\n") if not line.startswith((" ", "\t")))
        yield {key: value.strip() for key, _, value in lines}


def _dpkg() -> Iterator[Package]:
    texts = [_read("/var/lib/dpkg/status")]
    with contextlib.suppress(OSError):  # images without a package manager have a file for each
        names = sorted(os.listdir("/var/lib/dpkg/status.d"))
        texts += [_read(f"/var/lib/dpkg/status.d/{name}") for name in names if not name.endswith(".md5sums")]
    for text in texts:
        for facts in _paragraphs(text.decode("utf-8", "replace"), ":"):
            if "installed" in facts.get("Status", "installed").split():
                source = facts.get("Source", "").partition(" ")[0]
                yield _package(
                    "deb", facts.get("Package"), facts.get("Version"), facts.get("Architecture"), source=source
                )


def _apk() -> Iterator[Package]:
    for path in ("/lib/apk/db/installed", "/usr/lib/apk/db/installed"):
        for facts in _paragraphs(_read(path).decode("utf-8", "replace"), ":"):
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


def _rpm(connect: Callable[..., Any]) -> Iterator[Package]:
    for path in _RPM_SQLITE:
        if _read(f"/{path}", 1 << 30):
            with contextlib.closing(connect(f"file:/{path}?immutable=1", uri=True)) as database:
                for (blob,) in database.execute("SELECT blob FROM Packages"):
                    yield _rpm_package(bytes(blob))
    for path in _RPM_NDB:
        yield from map(_rpm_package, _ndb(_read(f"/{path}")))


def _ndb(data: bytes) -> Iterator[bytes]:
    """The headers in rpm's own database: pages of slots, of which each says where a header lies."""
    if len(data) < _NDB_HEADER.size or not data.startswith(b"RpmP"):
        return
    pages = _NDB_HEADER.unpack_from(data)[3]
    for at in range(2 * _NDB_SLOT.size, min(pages * 4096, len(data) - _NDB_SLOT.size), _NDB_SLOT.size):
        magic, number, offset, _ = _NDB_SLOT.unpack_from(data, at)
        if magic != 0x746F6C53 or not number:  # "Slot"
            continue
        place = offset * 16
        if place + _NDB_BLOB.size <= len(data):
            _, _, _, size = _NDB_BLOB.unpack_from(data, place)
            yield data[place + _NDB_BLOB.size : place + _NDB_BLOB.size + size]


def _rpm_package(header: bytes) -> Package:
    """Of a header without its lead: a count of entries, a size, the entries, and what they point to."""
    count, size = struct.unpack_from(">II", header)
    store = 8 + 16 * count
    facts: dict[str, str] = {}
    for number in range(min(count, 10_000)):
        tag, kind, offset, _ = struct.unpack_from(">IIII", header, 8 + 16 * number)
        if tag not in _RPM_TAGS or offset >= size:
            continue
        if kind in _RPM_STRINGS:
            facts[_RPM_TAGS[tag]] = header[store + offset :].split(b"\0", 1)[0].decode("utf-8", "replace")
        elif kind == _RPM_INT32:
            facts[_RPM_TAGS[tag]] = str(struct.unpack_from(">I", header, store + offset)[0])
    epoch = f"{facts['epoch']}:" if facts.get("epoch", "0") != "0" else ""
    version = f"{epoch}{facts.get('version', '')}-{facts.get('release', '')}"
    return _package("rpm", facts.get("name"), version, facts.get("architecture"), facts.get("license"))


# --- Python and npm


def _beside_files(parse: Callable[[str], Any]) -> Iterator[Package]:
    for seen, (directory, names, _) in enumerate(os.walk("/")):
        if seen > _MOST_DIRECTORIES:
            return
        names[:] = [name for name in names if not (directory == "/" and _PATHS.search(name))]
        for name in [name for name in names if name.endswith((".dist-info", ".egg-info"))]:
            file = "METADATA" if name.endswith(".dist-info") else "PKG-INFO"
            text = _read(f"{directory}/{name}/{file}", _LARGEST_MEMBER).decode("utf-8", "replace")
            yield _python(parse(text.partition("\n\n")[0]))
        if os.path.basename(directory) == "node_modules":
            for name in names:
                below = (
                    [f"{name}/{each}" for each in _listed(f"{directory}/{name}")] if name.startswith("@") else [name]
                )
                for each in below:
                    yield _npm(_read(f"{directory}/{each}/package.json", _LARGEST_MEMBER))


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
    except ValueError:
        return {}
    if not isinstance(facts, dict):
        return {}
    name, version, said = (facts.get(key) for key in ("name", "version", "license"))
    return _package("npm", *(each if isinstance(each, str) else "" for each in (name, version, "", said)))
