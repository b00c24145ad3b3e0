"""``RUN --mount=type=…,key=value,…``: one flag's text to a typed mount."""

import re
from collections.abc import Callable
from typing import Literal, cast

from msgspec import Struct

from wherry.dockerfile.errors import DockerfileError, suggestion

MountType = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
Sharing = Literal["", "shared", "private", "locked"]

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_KEYS = (
    *("type", "from", "source", "target", "readonly", "readwrite", "id", "sharing", "required", "size"),
    *("mode", "uid", "gid", "env"),
)
_FLAGS = ("readonly", "readwrite", "required")
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([kKmMgGtTpP]?)(?:[iI]?[bB])?")
_FIELD = re.compile(r'(?:"((?:[^"]|"")*+)"|([^",]*))(?=,|\Z)')
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


class Mount(Struct, frozen=True, kw_only=True):
    """A mount of one RUN. ``text`` is the flag's value as written; what it does not say has Docker's default.

    ``source_stage`` (``from=``) is a stage or an image, "" the build context. ``target`` may be relative to the
    working directory, and is that when it is "". ``size`` is in bytes, 0 is no limit. ``cache_id`` is ``id=``: of a
    cache (default: its target), a secret or an ssh agent. ``environment`` is the variable that a secret is given in,
    None for none.
    """

    text: str
    type: MountType = "bind"
    source_stage: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = True
    size: int = 0
    cache_id: str = ""
    sharing: Sharing = ""
    required: bool = False
    environment: str | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


def parse_mount(text: str, expand: Callable[[str], str] | None = None) -> Mount:
    """The mount that a flag's value describes.

    ``expand`` replaces the variables in a value. Without it values that have any are left at their defaults, as they
    are before the build begins; ``from=`` may never have one, since the graph of stages is made of it.
    Raises DockerfileError.
    """
    values: dict[str, str] = {}
    deferred = False
    for field in _fields(text):
        key, separator, value = field.partition("=")
        key = _ALIASES.get(key.lower(), key.lower())
        if not separator and key not in _FLAGS:
            raise DockerfileError(f"invalid field '{field}' must be a key=value pair")
        if key not in _KEYS:
            raise DockerfileError(f"unexpected key '{key}' in '{field}'{suggestion(key, _KEYS)}")
        if not separator:
            value = "true"
        elif key == "from" and "$" in value[:-1]:
            raise DockerfileError("'from' doesn't support variable expansion, define alias stage instead")
        elif expand is not None:
            value = expand(value)
        elif "$" in value:
            deferred = True
            continue
        if key == "readwrite":
            key, value = "readonly", "false" if _boolean("readwrite", value) else "true"
        values[key] = value
    return _mount(text, values, complete=not deferred)


def _fields(text: str) -> list[str]:
    """The flag's comma-separated fields; one with a comma in it stands in double quotes, which are doubled inside."""
    fields: list[str] = []
    at = 0
    while at <= len(text):
        match = _FIELD.match(text, at)
        if match is None:
            raise DockerfileError(f"failed to parse csv mounts: expected quotes around whole fields only: {text}")
        fields.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        at = match.end() + 1
    return fields


def _mount(text: str, values: dict[str, str], *, complete: bool) -> Mount:
    kind = values.get("type", "bind").lower()
    if kind not in _TYPES:
        raise DockerfileError(f'unsupported mount type "{kind}": expected {_one_of(_TYPES)}')
    sharing = values.get("sharing", "").lower()
    if sharing and sharing not in _SHARING:
        raise DockerfileError(f'unsupported sharing value "{sharing}": expected {_one_of(_SHARING)}')
    mount = Mount(
        text=text,
        type=cast("MountType", kind),
        source_stage=values.get("from", ""),
        source=values.get("source", ""),
        target=values.get("target", ""),
        read_only=_boolean("readonly", values["readonly"]) if "readonly" in values else kind not in ("cache", "tmpfs"),
        size=_size(values["size"]) if "size" in values else 0,
        cache_id=values.get("id", ""),
        sharing=cast("Sharing", sharing),
        required=_boolean("required", values.get("required", "false")),
        environment=values.get("env"),
        mode=_number("mode", values, 8),
        uid=_number("uid", values, 10),
        gid=_number("gid", values, 10),
    )
    if complete:
        _check(mount, values)
    return mount


def _one_of(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _check(mount: Mount, values: dict[str, str]) -> None:
    """What a type of mount may have, and must."""
    kind = mount.type
    if "required" in values and kind not in ("secret", "ssh"):
        raise DockerfileError(f"unexpected key 'required' for mount type '{kind}'")
    if "size" in values and kind != "tmpfs":
        raise DockerfileError(f"unexpected key 'size' for mount type '{kind}'")
    for key in ("mode", "uid", "gid"):
        if key in values and kind in ("bind", "tmpfs"):
            raise DockerfileError(f'{key} not allowed for "{kind}" type mounts')
    if kind == "secret":
        if mount.source_stage:
            raise DockerfileError("secret mount should not have a from")
        if mount.sharing:
            raise DockerfileError("secret mount should not define sharing")
        if not (mount.source or mount.target or mount.cache_id):
            raise DockerfileError("invalid secret mount. one of source, target required")
        if mount.source and mount.cache_id:
            raise DockerfileError("both source and id can't be set")
    if mount.sharing and kind != "cache":
        raise DockerfileError(f"invalid cache sharing set for {kind} mount")


def _boolean(key: str, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise DockerfileError(f"invalid value for {key}: {value}: expected true or false")


def _number(key: str, values: dict[str, str], base: int) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    digits = "01234567" if base == 8 else "0123456789"
    if not value or len(value) > 12 or value.strip(digits) or int(value, base) >= 1 << 32:
        form = "an octal number" if base == 8 else "a number"
        raise DockerfileError(f"invalid value {value} for {key}: expected {form}")
    return int(value, base)


def _size(value: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise DockerfileError(f"invalid value for size: {value}: expected a number of bytes, or one with k, m or g")
    return int(float(match[1]) * (1 << _UNITS[match[2].lower()]))
