"""`context`: engines with names, one of which is the current one."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import zipfile
from typing import IO, Any

from wherry.cli.context_store import DEFAULT, KEY_FILES, ROOTLESS, Store, check_form, check_name, save_current
from wherry.cli.session import CommandError, Session, command, current_context, for_each, reason
from wherry.cli.table import TABLE, Listing, Row, chosen_format, ellipsis
from wherry.cli.terminal import is_terminal
from wherry.client.local import default_address, own_socket
from wherry.common import flags, key_values
from wherry.common.flags import Options
from wherry.common.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_DESCRIPTION = "Current DOCKER_HOST based configuration"
ROOTLESS_DESCRIPTION = "Your own engine, without root"
IN_MEMORY = "<IN MEMORY>"
KEYS_OF_ENDPOINT = ("from", "host", *KEY_FILES, "skip-tls-verify")


CONTEXTS = Listing(
    "*formatter.clientContextContext",
    "Name Description DockerEndpoint Error",
    {
        "Current": ("CURRENT", lambda row: row["current"]),
        "Name": ("NAME", lambda row: row["name"] + (" *" if row["current"] and row.truncates else "")),
        "Description": ("DESCRIPTION", lambda row: ellipsis(row["about"], 60) if row.truncates else row["about"]),
        "DockerEndpoint": ("DOCKER ENDPOINT", "host"),
        "Error": ("ERROR", lambda _: ""),
    },
)


def _default_host(session: Session) -> str:
    hosts: list[str] = session.options["host"]
    return (hosts[0] if hosts else "") or default_address()


@command(flags.listing(), flags.switch("quiet", "q", "Only show context names"))
def run_ls(session: Session, options: Options) -> None:
    current = current_context(session)
    known = [(DEFAULT, DEFAULT_DESCRIPTION, _default_host(session))]
    known += [(each.name, each.description, each.host) for each in Store(session.config_directory).all()]
    if _has_own(session, ROOTLESS):
        known.append((ROOTLESS, ROOTLESS_DESCRIPTION, own_socket()))
    format = chosen_format(session, options, "", name="Name")
    rows = [
        Row(CONTEXTS, {"name": name, "about": about, "host": host, "current": name == current}, format == TABLE)
        for name, about, host in sorted(known)
    ]
    sys.stdout.write(CONTEXTS.text(rows, format))
    sys.stdout.flush()
    _warn_of_overriding("a context")


def _has_own(session: Session, name: str) -> bool:
    """Whether this name means an ordinary user's own engine, and nothing that was kept under it."""
    return name == ROOTLESS and os.geteuid() != 0 and name not in Store(session.config_directory)


def run_show(session: Session, options: Options) -> None:
    print(current_context(session))


def run_use(session: Session, options: Options) -> None:
    name = options.arguments[0]
    if name != DEFAULT and not _has_own(session, name):
        check_form(name)
        Store(session.config_directory).get(name)
    save_current(session.config_directory, name)
    print(name, flush=True)
    print(f'Current context is now "{name}"', file=sys.stderr)
    if name != DEFAULT:
        _warn_of_overriding(quoted(name))


def _warn_of_overriding(wanted: str) -> None:
    for variable in ("WHERRY_HOST", "DOCKER_HOST"):
        if os.environ.get(variable):
            print(
                f"Warning: {variable} environment variable overrides the active context. To use {wanted}, "
                f"either set the global --context flag, or unset {variable} environment variable.",
                file=sys.stderr,
            )


@command(flags.template("f"))
def run_inspect(session: Session, options: Options) -> None:
    from wherry.cli.inspect import show
    from wherry.client.c_modules import dumps

    def find(name: str) -> bytes:
        # As Go writes JSON, which scripts may compare.
        return dumps(described(session, name)).replace(b"<", b"\\u003c").replace(b">", b"\\u003e")

    show(options.arguments or [current_context(session)], options["format"], find)


def described(session: Session, name: str) -> dict[str, Any]:
    if name == DEFAULT or _has_own(session, name):
        host = {"Host": _default_host(session) if name == DEFAULT else own_socket(), "SkipTLSVerify": False}
        storage = {"MetadataPath": IN_MEMORY, "TLSPath": IN_MEMORY}
        return {"Name": name, "Metadata": {}, "Endpoints": {"docker": host}, "TLSMaterial": {}, "Storage": storage}
    context = Store(session.config_directory).get(name)
    files = [KEY_FILES[key] for key in context.key_files()]
    return {
        "Name": context.name,
        "Metadata": context.metadata.get("Metadata") or {},
        "Endpoints": context.metadata.get("Endpoints") or {},
        "TLSMaterial": {"docker": files} if files else {},
        "Storage": {"MetadataPath": context.directory, "TLSPath": context.tls},
    }


_DESCRIPTION = flags.string("description", "", "Description of the context")
_DOCKER = flags.Flag(
    "docker",
    "",
    "set the docker endpoint",
    "stringToString",
    {},
    lambda text, so_far: so_far | endpoint_of(text),
    show="[]",
)


def _help_of(verb: str) -> str:
    return f"""{verb.capitalize()} a context

Docker endpoint config:

NAME                DESCRIPTION
from                Copy named context's Docker endpoint configuration
host                Docker endpoint on which to connect
ca                  Trust certs signed only by this CA
cert                Path to TLS certificate file
key                 Path to TLS key file
skip-tls-verify     Skip TLS certificate validation

Example:

$ wherry context {verb} my-context --description "some description" \
--docker "host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\""""


@command(
    _DESCRIPTION,
    _DOCKER,
    flags.string("from", "", "create context from a named context"),
    description=_help_of("create"),
)
def run_create(session: Session, options: Options) -> None:
    name = options.arguments[0]
    store = Store(session.config_directory)
    check_name(name)
    if name in store:
        raise CommandError(f"context {quoted(name)} already exists")
    if options["from"] and options["docker"]:
        raise CommandError("cannot use --docker flag when --from is set")
    source = options["from"] or options["docker"].get("from", "")
    if source or not options["docker"]:
        metadata, keys = _copied(session, store, source or current_context(session))
    else:
        metadata, keys = _configured(options["docker"])
    if options["description"] or "Description" not in metadata["Metadata"]:
        metadata["Metadata"] = {"Description": options["description"]} if options["description"] else {}
    store.put({"Name": name, **metadata}, keys)
    print(name, flush=True)
    print(f'Successfully created context "{name}"', file=sys.stderr)


@command(_DESCRIPTION, _DOCKER, description=_help_of("update"))
def run_update(session: Session, options: Options) -> None:
    name = options.arguments[0]
    store = Store(session.config_directory)
    check_name(name)
    metadata, keys = _copied(session, store, name)
    if options["docker"]:
        source = options["docker"].get("from", "")
        endpoint, keys = _copied(session, store, source) if source else _configured(options["docker"])
        metadata["Endpoints"] = endpoint["Endpoints"]
    if options.changed("description"):
        metadata["Metadata"]["Description"] = options["description"]
    store.put({"Name": name, **metadata}, keys)
    print(name, flush=True)
    print(f'Successfully updated context "{name}"', file=sys.stderr)


def _copied(session: Session, store: Store, name: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    if name == DEFAULT:
        endpoint = {"Host": _default_host(session), "SkipTLSVerify": False}
        return {"Metadata": {"Description": DEFAULT_DESCRIPTION}, "Endpoints": {"docker": endpoint}}, {}
    context = store.get(name)
    keys = {key: read_file(path) for key, path in context.key_files().items()}
    return {"Metadata": dict(context.metadata.get("Metadata") or {}), "Endpoints": {"docker": context.endpoint}}, keys


def _configured(asked: dict[str, str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """--docker host=…,ca=…; Raises CommandError."""
    from wherry.client.endpoint import Host
    from wherry.client.transport import HostError
    from wherry.common.values import parse_bool

    failure = "unable to create docker endpoint config: invalid docker endpoint options: "
    unknown = sorted(set(asked) - set(KEYS_OF_ENDPOINT))
    if unknown:
        raise CommandError(
            "unable to create docker endpoint config: "
            + "\n".join(f"{key}: unrecognized config key" for key in unknown)
        )
    try:
        insecure = parse_bool(asked.get("skip-tls-verify") or "false")
        if asked.get("host"):
            Host(asked["host"])
    except (ValueError, HostError) as error:
        raise CommandError(failure + str(error)) from None
    keys = {key: read_file(os.path.expanduser(asked[key])) for key in KEY_FILES if asked.get(key)}
    for key, content in keys.items():
        if b"-----BEGIN" not in content:
            raise CommandError(f"{failure}failed to retrieve context tls info: {KEY_FILES[key]} seems invalid")
    endpoint = {"Host": asked.get("host", ""), "SkipTLSVerify": insecure}
    return {"Metadata": {}, "Endpoints": {"docker": endpoint}}, keys


def read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise CommandError(f"open {path}: {reason(error)}") from None


@command(flags.switch("force", "f", "Force the removal of a context in use"))
def run_rm(session: Session, options: Options) -> None:
    store = Store(session.config_directory)
    current, force = current_context(session), options["force"]

    def remove(name: str) -> None:
        if name == DEFAULT:
            raise CommandError(f"context {quoted(name)} cannot be removed")
        if name not in store and not force:
            raise CommandError(f"context {quoted(name)} does not exist")
        if name == current and not force:
            raise CommandError(f"context {quoted(name)} is in use, set -f flag to force remove")
        store.remove(name)
        if session.config.get("currentContext") == name:
            save_current(session.config_directory, DEFAULT)

    for_each(options.arguments, remove)


def endpoint_of(text: str) -> dict[str, str]:
    """key=value,key=value. Raises ValueError."""
    found = {}
    for pair in key_values.fields(text):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair} must be formatted as key=value")
        found[key] = value
    return found


# `context export` and `import`: a context as docker's archive of it, meta.json and the keys below tls/docker.

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
