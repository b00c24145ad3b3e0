"""Log drivers and their options: from what the API says to what the monitor does."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Literal

from wherry.common import times
from wherry.common.errors import InvalidParameter
from wherry.common.ports import split_address
from wherry.common.sizes import parse_size
from wherry.engine.container.store import ContainerEntry
from wherry.engine.events import Finds, compile_expression
from wherry.linux.files import IN_CREATE, IN_MODIFY, IN_MOVED_TO, Inotify
from wherry.model.container import Container, LogConfig
from wherry.runtime.logging import write_behind
from wherry.runtime.logging.reader import LogQuery, Reader
from wherry.runtime.spec import Journald, Log, Syslog

# The ``tag`` of a log: a template such as "{{.ImageName}}/{{.Name}}", of which Docker's fields are known.

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_SHORT_ID = 12
_FIELDS: dict[str, Callable[[Container], str]] = {
    ".ID": lambda container: container.id[:_SHORT_ID],
    ".FullID": lambda container: container.id,
    ".Name": lambda container: container.name,
    ".FullName": lambda container: f"/{container.name}",
    ".ImageName": lambda container: container.image,
    ".ImageFullName": lambda container: container.image,
    ".ImageID": lambda container: container.image_id[:_SHORT_ID],  # with its "sha256:", as Docker cuts it
    ".ImageFullID": lambda container: container.image_id,
    ".DaemonName": lambda container: "docker",
    ".Command": lambda container: " ".join((container.path, *container.args)),
}


def check_tag(template: str) -> None:
    """Raises InvalidParameter for what is no template, or has a field that containers do not have."""
    if "{{" in _ACTION.sub("", template):
        raise InvalidParameter("template: log-tag:1: unclosed action")
    for action in _ACTION.finditer(template):
        if action[1] not in _FIELDS:
            raise InvalidParameter(
                f'template: log-tag:1:{action.start(1)}: executing "log-tag" at <{action[1]}>: '
                f"can't evaluate it: a log's tag may have {', '.join(_FIELDS)}"
            )


def render_tag(template: str, container: Container) -> str:
    return _ACTION.sub(lambda action: _FIELDS[action[1]](container), template)


# Where the lines of a log are forwarded to: the options of the drivers syslog and journald.

SYSLOG_OPTIONS = {
    "syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key",
    "syslog-tls-skip-verify",
}  # fmt: skip
JOURNAL = "/run/systemd/journal/socket"

_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")  # where the machine's own syslog may be
_DEFAULT_PORT = 514
_DEFAULT_TAG = "{{.ID}}"
_PROTOCOLS = ("unix", "unixgram", "udp", "tcp", "tcp+tls")
_FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("", "", "", ""),
    *(f"local{number}" for number in range(8)),
)


def check_forwarding(config: LogConfig) -> None:
    """Raises InvalidParameter, in Docker's words, for what a container's lines cannot be forwarded to."""
    if config.type == "syslog":
        _check_files(_syslog(config.config, ""))
    elif config.type == "journald" and not os.path.exists(JOURNAL):
        raise InvalidParameter(f"journald is not enabled on this host: there is no {JOURNAL}")


def _check_files(to: Syslog) -> None:
    if to.protocol in ("unix", "unixgram") and not os.path.exists(to.address):
        raise InvalidParameter(f"stat {to.address}: no such file or directory")
    for path in (to.ca_cert, to.cert, to.key):
        if path and not os.access(path, os.R_OK):
            raise InvalidParameter(f'could not read the certificate or key "{path}" for syslog')


def forward_of(container: Container, attributes: dict[str, str]) -> Syslog | Journald | None:
    config = container.log
    if config.type not in ("syslog", "journald"):
        return None
    tag = render_tag(config.config.get("tag") or _DEFAULT_TAG, container)
    if config.type == "syslog":
        return _syslog(config.config, tag)
    extra = {_field_name(name): value for name, value in attributes.items() if name != "tag"}
    own = {
        "CONTAINER_ID": container.id[:12],
        "CONTAINER_ID_FULL": container.id,
        "CONTAINER_NAME": container.name,
        "CONTAINER_TAG": tag,
        "IMAGE_NAME": container.image,
        "SYSLOG_IDENTIFIER": tag,
    }
    return Journald(JOURNAL, own | extra)


def _field_name(name: str) -> str:
    """A field's name as the journal wants it: capitals, digits and underscores, and none of these at the beginning."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper()).lstrip("_")


def _syslog(options: dict[str, str], tag: str) -> Syslog:
    protocol, address, port = _address(options.get("syslog-address", ""))
    form = options.get("syslog-format", "")
    if form not in _FORMATS:
        raise InvalidParameter("Invalid syslog format")
    return Syslog(
        protocol=protocol,  # type: ignore[arg-type]  # one of _PROTOCOLS, which _address has seen to
        address=address,
        port=port,
        facility=_facility(options.get("syslog-facility", "daemon")) << 3,
        format=form,  # type: ignore[arg-type]  # likewise
        tag=tag,
        ca_cert=options.get("syslog-tls-ca-cert", ""),
        cert=options.get("syslog-tls-cert", ""),
        key=options.get("syslog-tls-key", ""),
        skip_verify="syslog-tls-skip-verify" in options,
    )


def _address(text: str) -> tuple[str, str, int]:
    """The protocol, the path or host, and the port."""
    if not text:
        return "unixgram", next((path for path in _LOCAL if os.path.exists(path)), _LOCAL[0]), 0
    try:
        url = split_address(text)
    except InvalidParameter as error:
        raise InvalidParameter(f"syslog-address {error.message}") from None
    if url.scheme not in _PROTOCOLS or "://" not in text:
        raise InvalidParameter(f"syslog-address should be in form proto://address, got {text}")
    if url.scheme in ("unix", "unixgram"):
        return url.scheme, url.path, 0
    return url.scheme, url.hostname or "localhost", url.port or _DEFAULT_PORT


def _facility(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < len(_FACILITIES):
        return int(text)
    if not text or text not in _FACILITIES:
        raise InvalidParameter("invalid syslog facility")
    return _FACILITIES.index(text)


_ATTRIBUTES = {"labels", "labels-regex", "env", "env-regex", "tag"}
_FILE = {"max-size", "max-file", "compress"}
_CACHE = {f"cache-{name}" for name in (*_FILE, "disabled")}
_ANY = {"mode", "max-buffer-size"}
_OPTIONS = {
    "local": _FILE | _ATTRIBUTES,
    "json-file": _FILE | _ATTRIBUTES,
    "syslog": SYSLOG_OPTIONS | _ATTRIBUTES | _CACHE,
    "journald": _ATTRIBUTES | _CACHE,
}
_DEFAULTS = {"json-file": ("0", "1", "false")}  # Docker's: size, files, compression
_OTHERS = (str(20 << 20), "5", "true")  # and those of "local", and of the file beside what is forwarded
_BUFFER = "1m"
_BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
DRIVERS = ("journald", "json-file", "local", "none", "syslog")


def check_log_config(config: LogConfig) -> None:
    """Raises InvalidParameter for a driver or an option that does not exist, or a wrong value, in Docker's words.

    Docker finds many wrong values when the container starts; here they are found when it is made.
    """
    if config.type == "none":
        return
    if config.type not in _OPTIONS:
        name = config.type
        raise InvalidParameter(f'error looking up logging plugin {name}: plugin "{name}" not found')
    _check_mode(config.config)
    for name in config.config:
        if name not in _OPTIONS[config.type] | _ANY:
            driver = "log driver local" if config.type == "local" else f"{config.type} log driver"
            raise InvalidParameter(f"unknown log opt '{name}' for {driver}")
    for name in ("labels-regex", "env-regex"):
        _pattern(config.config.get(name, ""))
    check_tag(config.config.get("tag", ""))
    _limits(config)
    is_readable(config)
    check_forwarding(config)


def _check_mode(options: dict[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        try:
            _size(options["max-buffer-size"], 1024)
        except InvalidParameter as error:
            raise InvalidParameter(f"error parsing option max-buffer-size: {error.message}") from None


def warnings(config: LogConfig) -> list[str]:
    """What was asked for and will not be had, a line each."""
    if config.config.get("mode") != "non-blocking" or config.type not in ("local", "json-file"):
        return []
    return [f"Non-blocking logging mode discarded: the log driver {config.type} writes to the disk at once"]


def is_readable(config: LogConfig) -> bool:
    """Whether ``logs`` has something to read. Raises InvalidParameter when the option for it is no boolean."""
    return config.type != "none" and not (_forwards(config) and _boolean(config.config, "cache-disabled", "false"))


def _forwards(config: LogConfig) -> bool:
    return config.type in ("syslog", "journald")


def log_path(directory: str, container_id: str, driver: str) -> str:
    """Where a container's log is; for json-file the name is Docker's, which log shippers look for."""
    if driver == "none":
        return ""
    path = f"{directory}/{container_id}-json.log"
    return path if driver == "json-file" else _local_path(path)


def _local_path(path: str) -> str:
    return f"{os.path.dirname(path)}/container.log"


def _may_be_written_behind(path: str) -> bool:
    """Not a log of an older engine, which has no other than json-file's."""
    return os.path.exists(_local_path(path)) or not os.path.exists(path)


def log_of(container: Container) -> Log:
    config = container.log
    if config.type == "none":
        return Log(driver="none")
    max_size, max_files, compress = _limits(config)
    attributes = _attributes(container)
    driver, path, json_path = _file_format(config), container.log_path, ""
    if driver == "json-file" and not max_size and _may_be_written_behind(path):
        driver, path, json_path = "local", _local_path(path), path
    return Log(
        driver=driver,
        path=path,
        json_path=json_path,
        max_size=max_size,
        max_files=max_files,
        compress=compress,
        attrs=attributes,
        forward=forward_of(container, attributes),
        buffer=_size(config.config.get("max-buffer-size", _BUFFER), 1024),
        patient=config.config.get("mode") != "non-blocking",
    )


def _file_format(config: LogConfig) -> Literal["none", "local", "json-file"]:
    if not is_readable(config):
        return "none"
    return "json-file" if config.type == "json-file" else "local"


def _limits(config: LogConfig) -> tuple[int, int, bool]:
    """The size of a file, how many there are, and whether the older ones are compressed."""
    default_size, default_files, default_compress = _DEFAULTS.get(config.type, _OTHERS)
    prefix = "cache-" if _forwards(config) else ""
    size = _size(config.config.get(f"{prefix}max-size", default_size))
    files = config.config.get(f"{prefix}max-file", default_files)
    if not re.fullmatch(r"[+-]?\d+", files):
        raise InvalidParameter(f'strconv.Atoi: parsing "{files}": invalid syntax')
    if int(files) < 1:
        raise InvalidParameter("max-file cannot be less than 1")
    compress = _boolean(config.config, f"{prefix}compress", default_compress)
    if compress and config.type == "json-file" and (int(files) < 2 or not size):
        raise InvalidParameter("compress cannot be true when max-file is less than 2 or max-size is not set")
    return size, int(files), compress and int(files) > 1


def _boolean(options: dict[str, str], name: str, default: str) -> bool:
    text = options.get(name, default)
    if text.lower() not in _BOOLEANS:
        raise InvalidParameter(f"invalid value for option {name}: {text}")
    return _BOOLEANS[text.lower()]


def _size(text: str, kilo: int = 1000) -> int:
    try:
        return parse_size(text, kilo)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None


def _attributes(container: Container) -> dict[str, str]:
    """What ``logs --details`` shows: the labels and variables that the options name, and the tag."""
    options = container.log.config
    environment = dict(entry.partition("=")[::2] for entry in container.config.env or ())
    attributes = _chosen(container.config.labels or {}, options.get("labels", ""), options.get("labels-regex", ""))
    attributes |= _chosen(environment, options.get("env", ""), options.get("env-regex", ""))
    if tag := options.get("tag"):
        attributes["tag"] = render_tag(tag, container)
    return attributes


def _chosen(values: dict[str, str], names: str, pattern: str) -> dict[str, str]:
    wanted = names.split(",")
    matches = _pattern(pattern) if pattern else lambda name: False
    return {name: value for name, value in values.items() if name in wanted or matches(name)}


def _pattern(text: str) -> Finds:
    try:
        return compile_expression(text)
    except ValueError as error:
        raise InvalidParameter(f"error parsing regexp: {error}: `{text}`") from None


def catch_up(containers: Iterable[Container]) -> None:
    """Writes what monitors that were killed have left of the files that log shippers read. Takes its time."""
    for container in containers:
        log = log_of(container)
        if log.json_path:
            with contextlib.suppress(OSError):  # the disk is full, or the container is removed meanwhile
                write_behind.catch_up(log)


# ``logs``: what a container printed, and with ``follow`` what it goes on to print, up to its end.

_YOUNG = 50_000_000  # ns


async def read_logs(entry: ContainerEntry, wanted: LogQuery, *, follow: bool) -> AsyncIterator[bytes]:
    """Framed chunks, raw for a terminal. A container that does not run is not followed, as in Docker."""
    log = log_of(entry.record)
    if not follow or wanted.tail is not None:
        await _settled(entry)
    reader = Reader(log, wanted, framed=not entry.record.config.tty)
    with contextlib.closing(reader), contextlib.ExitStack() as watching:
        # Watched before the first read, so that nothing is written unseen in between.
        changes = watching.enter_context(_Changes(log.path)) if follow and entry.monitor else None
        async for chunk in _in_thread(reader.read()):
            yield chunk
        while changes is not None and not reader.done:
            ended = entry.ended.is_set()
            async for chunk in _in_thread(reader.read()):
                yield chunk
            if ended or not await _more(changes, entry, wanted.until):
                return


async def _settled(entry: ContainerEntry) -> None:
    """Waits for a container that has only just been started to end, or to be no longer that young.

    Docker's own start answers so much later than the process begins that scripts start a short command and read its
    log at once. Here they would come before the first line.
    """
    left = entry.record.state.started_at + _YOUNG - times.now()
    if entry.monitor is not None and 0 < left <= _YOUNG:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(entry.ended.wait(), left / 1e9)


async def _more(changes: "_Changes", entry: ContainerEntry, until: int | None) -> bool:
    """Waits for the log to change or the container to end. False when the time to stop at has come before that."""
    delay = None if until is None else max(0, until - times.now()) / 1e9
    waits = [asyncio.ensure_future(changes.wait()), asyncio.ensure_future(entry.ended.wait())]
    try:
        done, _ = await asyncio.wait(waits, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return bool(done)


async def _in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, each made in a thread: looking at lines takes time that others would have to wait.

    Whoever is cancelled waits for the thread, since the reader that it uses is closed next.
    """
    while True:
        making = asyncio.ensure_future(asyncio.to_thread(next, chunks, None))
        try:
            chunk = await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.wait((making,))
            raise
        if chunk is None:
            return
        yield chunk


class _Changes:
    """Tells when the log's file grows, or another takes its place."""

    def __init__(self, path: str) -> None:
        self._changed = asyncio.Event()
        self._inotify = Inotify()
        self._inotify.watch(os.path.dirname(path), IN_MODIFY | IN_CREATE | IN_MOVED_TO)
        asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._hear)

    def __enter__(self) -> "_Changes":
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._inotify.fileno())
        self._inotify.close()

    def _hear(self) -> None:
        for _ in self._inotify.events():
            self._changed.set()

    async def wait(self) -> None:
        await self._changed.wait()
        self._changed.clear()
