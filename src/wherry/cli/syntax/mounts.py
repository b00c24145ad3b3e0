"""`--mount type=bind,src=/a,dst=/b` and `-v /a:/b:ro`."""

from __future__ import annotations

import os

from wherry.cli import values
from wherry.cli.syntax import csv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")

_SECTIONS = {"volume": "VolumeOptions", "image": "ImageOptions", "bind": "BindOptions", "tmpfs": "TmpfsOptions"}


def parse_mount(text: str) -> dict[str, Any]:
    """The API's Mount. Raises ValueError with docker's words."""
    mount: dict[str, Any] = {"Type": "volume"}
    for field in csv.fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if equals:
            _take_pair(mount, key, value, field)
        elif key in ("readonly", "ro"):
            mount["ReadOnly"] = True
        elif key == "volume-nocopy":
            _section(mount, "volume")["NoCopy"] = True
        elif key == "bind-nonrecursive":
            _section(mount, "bind")["NonRecursive"] = True
        else:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
    _check(mount)
    return _without_empty(mount)


def _section(mount: dict[str, Any], kind: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"Labels": {}, "DriverConfig": {}} if kind == "volume" else {}
    section: dict[str, Any] = mount.setdefault(_SECTIONS[kind], empty)
    return section


def _take_pair(mount: dict[str, Any], key: str, value: str, field: str) -> None:
    if key == "type":
        mount["Type"] = value.lower()
    elif key in ("source", "src"):
        mount["Source"] = os.path.abspath(value) if value.startswith(".") else value
    elif key in ("target", "dst", "destination"):
        mount["Target"] = value
    elif key in ("readonly", "ro"):
        mount["ReadOnly"] = _boolean(key, value)
    elif key == "consistency":
        mount["Consistency"] = value.lower()
    elif key.startswith("bind-"):
        _take_bind(mount, key, value, field)
    elif key.startswith("volume-"):
        _take_volume(mount, key, value, field)
    elif key == "image-subpath":
        _section(mount, "image")["Subpath"] = value
    elif key == "tmpfs-size":
        try:
            _section(mount, "tmpfs")["SizeBytes"] = values.parse_size(value)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None
    elif key == "tmpfs-mode":
        try:
            _section(mount, "tmpfs")["Mode"] = values.parse_unsigned(value, 32, base=8)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _take_bind(mount: dict[str, Any], key: str, value: str, field: str) -> None:
    recursion = {"enabled": "", "disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive"}
    recursion["readonly"] = "ReadOnlyForceRecursive"
    if key == "bind-propagation":
        _section(mount, "bind")["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        _section(mount, "bind")["NonRecursive"] = _boolean(key, value)
    elif key == "bind-recursive":
        if value not in recursion:
            raise ValueError(
                f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
            )
        if recursion[value]:
            _section(mount, "bind")[recursion[value]] = True
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _take_volume(mount: dict[str, Any], key: str, value: str, field: str) -> None:
    name, _, setting = value.partition("=")
    if key == "volume-subpath":
        _section(mount, "volume")["Subpath"] = value
    elif key == "volume-nocopy":
        _section(mount, "volume")["NoCopy"] = _boolean(key, value)
    elif key == "volume-label":
        labels = _section(mount, "volume")["Labels"]
        if name:
            labels[name] = setting
    elif key == "volume-driver":
        _section(mount, "volume")["DriverConfig"]["Name"] = value
    elif key == "volume-opt":
        settings = _section(mount, "volume")["DriverConfig"].setdefault("Options", {})
        if name:
            settings[name] = setting
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _boolean(key: str, value: str) -> bool:
    try:
        return values.parse_bool(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


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
        """For HostConfig.Binds: a relative source is relative to here."""
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
