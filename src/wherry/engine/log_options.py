"""Log drivers and their options: from what the API says to what the monitor does."""

import re
from typing import Literal

from wherry.engine import log_forwarding, log_tags
from wherry.model.container import Container
from wherry.model.errors import InvalidParameter
from wherry.model.host import LogConfig
from wherry.runtime.spec import Log

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_ATTRIBUTES = {"labels", "labels-regex", "env", "env-regex", "tag"}
_FILE = {"max-size", "max-file", "compress"}
_CACHE = {f"cache-{name}" for name in (*_FILE, "disabled")}
_ANY = {"mode", "max-buffer-size"}
_OPTIONS = {
    "local": _FILE | _ATTRIBUTES,
    "json-file": _FILE | _ATTRIBUTES,
    "syslog": log_forwarding.SYSLOG_OPTIONS | _ATTRIBUTES | _CACHE,
    "journald": _ATTRIBUTES | _CACHE,
}
_DEFAULTS = {"json-file": ("0", "1", "false")}  # Docker's: size, files, compression
_OTHERS = ("20m", "5", "true")  # and those of "local", and of the file beside what is forwarded
_BUFFER = "1m"
_BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
DRIVERS = ("journald", "json-file", "local", "none", "syslog")


def check(config: LogConfig) -> None:
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
    log_tags.check(config.config.get("tag", ""))
    _limits(config)
    is_readable(config)
    log_forwarding.check(config)


def _check_mode(options: dict[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        try:
            parse_size(options["max-buffer-size"])
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
    return f"{directory}/{container_id}-json.log" if driver == "json-file" else f"{directory}/container.log"


def log_of(container: Container) -> Log:
    config = container.log
    if config.type == "none":
        return Log(driver="none")
    max_size, max_files, compress = _limits(config)
    attributes = _attributes(container)
    return Log(
        driver=_file_format(config),
        path=container.log_path,
        max_size=max_size,
        max_files=max_files,
        compress=compress,
        attrs=attributes,
        forward=log_forwarding.forward_of(container, attributes),
        buffer=parse_size(config.config.get("max-buffer-size", _BUFFER)),
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
    size = parse_size(config.config.get(f"{prefix}max-size", default_size))
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


def parse_size(text: str) -> int:
    """Bytes of "10m", "1.5g", "512" or "-1" (no limit: 0). Raises InvalidParameter."""
    number = text.strip().lower().removesuffix("ib").removesuffix("b")
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        size = float(number.removesuffix(unit)) * _UNITS[unit]
    except (ValueError, KeyError):
        raise InvalidParameter(f"invalid size: '{text}'") from None
    return max(0, int(size))


def _attributes(container: Container) -> dict[str, str]:
    """What ``logs --details`` shows: the labels and variables that the options name, and the tag."""
    options = container.log.config
    environment = dict(entry.partition("=")[::2] for entry in container.config.env or ())
    attributes = _chosen(container.config.labels or {}, options.get("labels", ""), options.get("labels-regex", ""))
    attributes |= _chosen(environment, options.get("env", ""), options.get("env-regex", ""))
    if tag := options.get("tag"):
        attributes["tag"] = log_tags.render(tag, container)
    return attributes


def _chosen(values: dict[str, str], names: str, pattern: str) -> dict[str, str]:
    wanted = names.split(",")
    matches = _pattern(pattern).search if pattern else lambda name: None
    return {name: value for name, value in values.items() if name in wanted or matches(name)}


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidParameter(f"error parsing regexp: {error}: `{text}`") from None
