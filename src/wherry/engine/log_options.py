"""Log drivers and their options: from what the API says to what the monitor does."""

from wherry.model.container import Container
from wherry.model.errors import InvalidParameter
from wherry.model.host import LogConfig
from wherry.runtime.spec import Log

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_FILE_OPTIONS = {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"}
_OPTIONS = {"none": set[str](), "local": _FILE_OPTIONS, "json-file": _FILE_OPTIONS}
_DEFAULTS = {"local": ("20m", "5", "true"), "json-file": ("0", "1", "false")}  # Docker's, for each driver
DRIVERS = ("json-file", "local", "none")


def check(config: LogConfig) -> None:
    """Raises InvalidParameter for a driver or an option that does not exist, in Docker's words."""
    if config.type not in _OPTIONS:
        raise InvalidParameter(f"logger: no log driver named '{config.type}' is registered")
    for name in config.config:
        if name not in _OPTIONS[config.type] and name not in ("mode", "max-buffer-size"):
            raise InvalidParameter(f"unknown log opt '{name}' for {config.type} log driver")
    _limits(config)


def log_path(directory: str, container_id: str, driver: str) -> str:
    """Where a container's log is; for json-file the name is Docker's, which log shippers look for."""
    return {"local": f"{directory}/container.log", "json-file": f"{directory}/{container_id}-json.log"}.get(driver, "")


def log_of(container: Container) -> Log:
    config = container.log
    if config.type == "none":
        return Log(driver="none")
    max_size, max_files, compress = _limits(config)
    return Log(
        driver="json-file" if config.type == "json-file" else "local",
        path=container.log_path,
        max_size=max_size,
        max_files=max_files,
        compress=compress,
        attrs=_attributes(container) if config.type == "json-file" else {},
    )


def _limits(config: LogConfig) -> tuple[int, int, bool]:
    default_size, default_files, default_compress = _DEFAULTS.get(config.type, _DEFAULTS["json-file"])
    size = parse_size(config.config.get("max-size", default_size))
    files = config.config.get("max-file", default_files)
    if not files.isdigit() or int(files) < 1:
        raise InvalidParameter(f"max-file cannot be less than 1: {files!r}")
    compress = config.config.get("compress", default_compress).lower()
    if compress not in ("true", "false", "1", "0"):
        raise InvalidParameter(f"invalid value for compress: {compress!r}")
    return size, int(files), compress in ("true", "1") and int(files) > 1


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
    """json-file's "attrs": the labels and variables that the options name, and the tag."""
    options = container.log.config
    attributes = {
        key: container.config.labels[key]
        for key in options.get("labels", "").split(",")
        if key in container.config.labels
    }
    environment = dict(entry.partition("=")[::2] for entry in container.config.env or ())
    attributes |= {key: environment[key] for key in options.get("env", "").split(",") if key in environment}
    if tag := options.get("tag"):
        attributes["tag"] = tag
    return attributes
