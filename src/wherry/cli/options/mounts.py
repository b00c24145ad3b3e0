"""`--mount type=bind,src=/a,dst=/b` and `-v /a:/b:ro`."""

from __future__ import annotations

import os

from wherry.common import key_values, values
from wherry.common.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SECTIONS = {"volume": "VolumeOptions", "image": "ImageOptions", "bind": "BindOptions", "tmpfs": "TmpfsOptions"}


def _source(value: str) -> str:
    return os.path.abspath(value) if value.startswith(".") else value


# Of each key the section ("": the mount itself), the field, and what makes its value of the text.
_FIELDS: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "type": ("", "Type", str.lower),
    **dict.fromkeys(("source", "src"), ("", "Source", _source)),
    **dict.fromkeys(("target", "dst", "destination"), ("", "Target", str)),
    **dict.fromkeys(("readonly", "ro"), ("", "ReadOnly", values.parse_bool)),
    "consistency": ("", "Consistency", str.lower),
    "bind-propagation": ("bind", "Propagation", str.lower),
    "bind-nonrecursive": ("bind", "NonRecursive", values.parse_bool),
    "bind-create-src": ("bind", "CreateMountpoint", values.parse_bool),
    "idmap": ("bind", "IDMap", str),
    "volume-subpath": ("volume", "Subpath", str),
    "volume-nocopy": ("volume", "NoCopy", values.parse_bool),
    "image-subpath": ("image", "Subpath", str),
    "tmpfs-size": ("tmpfs", "SizeBytes", parse_size),
    "tmpfs-mode": ("tmpfs", "Mode", lambda text: values.parse_unsigned(text, 32, base=8)),
}
_SWITCHES = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src", "idmap")
_RECURSION = {
    "enabled": "",
    "disabled": "NonRecursive",
    "writable": "ReadOnlyNonRecursive",
    "readonly": "ReadOnlyForceRecursive",
}


def parse_mount(text: str) -> dict[str, Any]:
    """The API's Mount. Raises ValueError with docker's words."""
    mount: dict[str, Any] = {"Type": "volume"}
    for key, value, field in key_values.pairs(text, _SWITCHES):
        _take(mount, key, value, field)
    _check(mount)
    return _without_empty(mount)


def _section(mount: dict[str, Any], kind: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"Labels": {}, "DriverConfig": {}} if kind == "volume" else {}
    section: dict[str, Any] = mount.setdefault(_SECTIONS[kind], empty)
    return section


def _take(mount: dict[str, Any], key: str, value: str, field: str) -> None:
    name, _, setting = value.partition("=")
    if key in _FIELDS:
        kind, place, convert = _FIELDS[key]
        try:
            (_section(mount, kind) if kind else mount)[place] = convert(value)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None
    elif key == "bind-recursive":
        if value not in _RECURSION:
            raise ValueError(
                f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
            )
        if _RECURSION[value]:
            _section(mount, "bind")[_RECURSION[value]] = True
    elif key == "volume-driver":
        _section(mount, "volume")["DriverConfig"]["Name"] = value
    elif key in ("volume-label", "volume-opt"):
        section = _section(mount, "volume")
        pairs = section["Labels"] if key == "volume-label" else section["DriverConfig"].setdefault("Options", {})
        if name:
            pairs[name] = setting
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _check(mount: dict[str, Any]) -> None:
    if not mount["Type"]:
        raise ValueError("type is required")
    if not mount.get("Target"):
        raise ValueError("target is required")
    for kind, section in _SECTIONS.items():
        if section in mount and mount["Type"] != kind:
            raise ValueError(f"cannot mix '{kind}-*' options with mount type '{mount['Type']}'")
    bind = mount.get("BindOptions", {})
    for how, name in (("writable", "ReadOnlyNonRecursive"), ("readonly", "ReadOnlyForceRecursive")):
        if bind.get(name) and not mount.get("ReadOnly"):
            raise ValueError(f"option 'bind-recursive={how}' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        raise ValueError(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
        )


def _without_empty(mount: dict[str, Any]) -> dict[str, Any]:
    """As Go's encoder leaves out what is empty, except the sections themselves and a volume's driver."""
    clean = {}
    for key, value in mount.items():
        if key in _SECTIONS.values():
            clean[key] = {name: item for name, item in value.items() if item or name == "DriverConfig"}
        elif value:
            clean[key] = value
    return clean


class Volume:
    """-v: what of it matters here; `source` is empty for an anonymous volume. The engine reads the rest."""

    __slots__ = ("is_bind", "source", "spec")

    def __init__(self, spec: str, source: str, is_bind: bool) -> None:
        self.spec, self.source, self.is_bind = spec, source, is_bind

    @property
    def bind(self) -> str:
        """A word of HostConfig.Binds: a relative source is made absolute."""
        source, colon, rest = self.spec.partition(":")
        if self.is_bind and source.startswith("."):
            return os.path.abspath(source) + colon + rest
        return self.spec


def parse_volume(spec: str) -> Volume:
    """Raises ValueError with docker's words."""
    if not spec:
        raise ValueError("invalid empty volume spec")
    if len(spec) <= 2:
        return Volume(spec, "", False)
    sections = _sections(spec)
    for number, section in enumerate(sections):
        if not section:
            raise ValueError(f"invalid spec: {spec}: empty section between colons")
        if number == 2 and len(sections) > 3:
            raise ValueError(f"invalid spec: {spec}: too many colons")
    source = sections[0] if len(sections) > 1 else ""
    return Volume(spec, source, _is_path(source))


def _sections(spec: str) -> list[str]:
    """Split at colons, but not at the one of a Windows drive: c:\\data:/data."""
    sections = [""]
    for char in spec:
        if char == ":" and not (len(sections[-1]) == 1 and sections[-1].isalpha()):
            sections.append("")
        else:
            sections[-1] += char
    return sections


def _is_path(source: str) -> bool:
    if source[:1] in (".", "/", "~") and source:
        return True
    return source.startswith("\\\\") or (len(source) > 1 and source[0].isalpha() and source[1] == ":")
