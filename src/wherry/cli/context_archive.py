"""`context export` and `import`: a context as docker's archive of it, meta.json and the keys below tls/docker."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import zipfile
from typing import IO, Any

from wherry.cli.command import CommandError, Session
from wherry.cli.context import described, read_file
from wherry.cli.contexts import DEFAULT, KEY_FILES, Store, check_form, check_name
from wherry.cli.flags import Options
from wherry.cli.output_file import reason
from wherry.cli.terminal import is_terminal
from wherry.cli.values import quoted

METADATA = "meta.json"
KEYS = "tls/docker/"
LARGEST = 10 << 20  # bytes of a file in an archive, as docker has it


def run_export(session: Session, options: Options) -> None:
    name = options.arguments[0]
    check_form(name)
    place = options.arguments[1] if len(options.arguments) > 1 else f"{name}.dockercontext"
    content = _packed(session, name)
    if place == "-":
        if is_terminal(1):
            raise CommandError("cowardly refusing to export to a terminal, specify a file path")
        sys.stdout.buffer.write(content)
        return
    try:
        with open(place, "xb", opener=lambda path, mode: os.open(path, mode, 0o600)) as file:
            file.write(content)
    except OSError as error:
        raise CommandError(f"open {place}: {reason(error)}") from None
    print(f"Written file {quoted(place)}", file=sys.stderr)


def _packed(session: Session, name: str) -> bytes:
    keys = {} if name == DEFAULT else Store(session.config_directory).get(name).key_files()
    shown = described(session, name)
    metadata = {key: shown[key] for key in ("Name", "Metadata", "Endpoints")}
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        _add(archive, METADATA, json.dumps(metadata, separators=(",", ":")).encode(), 0o644)
        for directory in ("tls", KEYS[:-1]) if keys else ("tls",):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(entry)
        for key, path in keys.items():
            _add(archive, KEYS + KEY_FILES[key], read_file(path), 0o600)
    return output.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def run_import(session: Session, options: Options) -> None:
    name, place = options.arguments
    store = Store(session.config_directory)
    check_name(name)
    if name in store:
        raise CommandError(f"context {quoted(name)} already exists")
    files = _unpacked(sys.stdin.buffer.read() if place == "-" else read_file(place))
    store.put(_metadata(name, files.pop(METADATA, None)), _keys(files))
    print(name, flush=True)
    print(f"Successfully imported context {quoted(name)}", file=sys.stderr)


def _unpacked(content: bytes) -> dict[str, bytes]:
    """The files of a tar or zip archive by their names. Raises CommandError."""
    data, found = io.BytesIO(content), {}
    try:
        if zipfile.is_zipfile(data):
            with zipfile.ZipFile(data) as packed:
                for each in packed.infolist():
                    if not each.is_dir():
                        found[each.filename] = _limited(packed.open(each), each.filename)
            return found
        data.seek(0)
        with tarfile.open(fileobj=data) as archive:
            for entry in archive:
                file = archive.extractfile(entry) if entry.isfile() else None
                if file is not None:
                    found[entry.name] = _limited(file, entry.name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        raise CommandError(f"the file is no archive of a context: {error}") from None
    return found


def _limited(file: IO[bytes], name: str) -> bytes:
    content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise CommandError(f"{name} in the archive is larger than {LARGEST >> 20} MiB")
    return content


def _metadata(name: str, content: bytes | None) -> dict[str, Any]:
    if content is None:
        raise CommandError("invalid context: no metadata found")
    try:
        found = json.loads(content)
        return {"Name": name, "Metadata": dict(found.get("Metadata") or {}), "Endpoints": dict(found["Endpoints"])}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CommandError(f"invalid context: {METADATA} does not describe one") from None


def _keys(files: dict[str, bytes]) -> dict[str, bytes]:
    known = {KEYS + file: key for key, file in KEY_FILES.items()}
    for name in files:
        if name not in known:
            raise CommandError(f"unexpected context file: {name}")
    return {known[name]: content for name, content in files.items()}
