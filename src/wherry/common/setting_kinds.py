"""Kinds of the daemon's settings: what one is on a command line, and what in daemon.json."""

from __future__ import annotations

from wherry.common import flags, key_values, values
from wherry.common.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Check = Callable[[Any], Any]  # gives the value as it is kept; raises ValueError


class Setting:
    """``key`` is the name in daemon.json, "" for what only a command line can say; ``decode`` takes what JSON has, and
    raises ValueError. ``refusal`` says why the engine does not have it. ``reloads``: SIGHUP reads it again."""

    __slots__ = ("decode", "flag", "key", "refusal", "reloads")

    def __init__(self, flag: Flag, key: str, decode: Check, *, refusal: str = "", reloads: bool = False) -> None:
        self.flag, self.key, self.decode = flag, key, decode
        self.refusal, self.reloads = refusal, reloads


_NAMES = {
    bool: "a boolean", str: "a string", int: "a number", float: "a number", list: "an array", dict: "an object",
}  # fmt: skip


def same(value: Any) -> Any:
    return value


def _json(kind: type) -> Check:
    def decode(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"this is to be {_NAMES[kind]}, not {_NAMES.get(type(value), 'null')}")
        return value

    return decode


_boolean, text_of, _number, array_of, object_of = map(_json, (bool, str, int, list, dict))


def switch(name: str, usage: str, default: bool | None = False, short: str = "", **more: Any) -> Setting:
    """None is neither: it was not said."""
    flag = flags.switch(name, short, usage, bool(default))
    flag.default = default
    return Setting(flag, name, _boolean, **more)


def string(
    name: str, usage: str, default: str = "", check: Check = same, *, short: str = "", kind: str = "string", **more: Any
) -> Setting:
    show = f'"{default}"' if default else ""
    flag = Flag(name, short, usage, kind, default, lambda text, _: check(text), show=show)
    return Setting(flag, name, lambda value: check(text_of(value)), **more)


def integer(name: str, usage: str, default: int = 0, *, least: int = 0, **more: Any) -> Setting:
    def check(number: int) -> int:
        if number < least:
            raise ValueError(f"invalid {name.replace('-', ' ')}: {number}")
        return number

    parse: flags.Parse = lambda text, _: check(values.parse_int(text, base=0))  # noqa: E731
    flag = Flag(name, "", usage, "int", default, parse, show=str(default) if default else "")
    return Setting(flag, name, lambda value: check(_number(value)), **more)


def size(name: str, usage: str, default: int, show: str, **more: Any) -> Setting:
    flag = flags.size(name, "", usage)
    flag.default, flag.show = default, show
    return Setting(flag, name, lambda value: flag.parse(str(value), 0), **more)


def listing(
    name: str, usage: str, key: str = "", check: Check = same, *, short: str = "", kind: str = "list", **more: Any
) -> Setting:
    """``key`` is the name with an s, unless it is given."""
    flag = flags.strings(name, short, usage, check, kind=kind)
    return Setting(flag, key or f"{name}s", lambda value: [check(text_of(each)) for each in array_of(value)], **more)


def pairs(name: str, usage: str, **more: Any) -> Setting:
    flag = flags.pairs(name, "", usage, pair)
    return Setting(flag, f"{name}s", _texts, **more)


def _texts(value: Any) -> dict[str, str]:
    return {key: text_of(each) for key, each in object_of(value).items()}


def only_flag(flag: Flag) -> Setting:
    return Setting(flag, "", same)


def refused(setting: Setting, refusal: str) -> Setting:
    """Docker's, but not wherry's. It may be said to be off, which it is."""
    parse, off = setting.flag.parse, setting.flag.default

    def insist(value: Any) -> Any:
        if value != off and (value or off is True):
            raise ValueError(f"wherry does not have this: {refusal}")
        return off

    setting.flag.parse = lambda text, so_far: insist(parse(text, so_far))
    setting.decode = insist
    setting.refusal, setting.flag.hidden = refusal, True
    return setting


# Settings whose JSON has a shape of its own


def ulimits(name: str, usage: str) -> Setting:
    def decode(value: Any) -> list[dict[str, Any]]:
        """{"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 2048}}"""
        found = []
        for limit, each in object_of(value).items():
            soft, hard = (_number(object_of(each).get(field, 0)) for field in ("Soft", "Hard"))
            found.append(values.parse_ulimit(f"{limit}={soft}:{hard}"))
        return found

    return Setting(flags.ulimits(name, usage), f"{name}s", decode)


def address_pools(name: str, usage: str) -> Setting:
    """base=10.10.0.0/16,size=24, and [{"base": "10.10.0.0/16", "size": 24}]"""

    def parse(text: str, so_far: list[dict[str, Any]]) -> list[dict[str, Any]]:
        fields = {}
        for key, value, field in key_values.pairs(text):
            if key not in ("base", "size"):
                raise ValueError(f"unexpected key '{key}' in '{field}'")
            fields[key] = value
        return [*so_far, _pool(fields.get("base", ""), values.parse_int(fields.get("size", "0")))]

    def decode(value: Any) -> list[dict[str, Any]]:
        found = []
        for each in map(object_of, array_of(value)):
            found.append(_pool(text_of(each.get("base", "")), _number(each.get("size", 0))))
        return found

    return Setting(Flag(name, "", usage, "pool-options", [], parse), f"{name}s", decode)


def _pool(base: str, length: int) -> dict[str, Any]:
    import ipaddress

    try:
        network = ipaddress.ip_network(base, strict=False)
    except ValueError:
        raise ValueError(f"invalid base pool {values.quoted(base)}") from None
    if not network.prefixlen <= length <= network.max_prefixlen - 2:
        at_most = network.max_prefixlen - 2
        raise ValueError(f"invalid size {length} in {base}: it is to be from {network.prefixlen} to {at_most}")
    return {"base": str(network), "size": length}


def network_options(name: str, usage: str) -> Setting:
    """bridge=com.docker.network.driver.mtu=1400, and {"bridge": {"com.docker.network.driver.mtu": "1400"}}"""

    def parse(text: str, so_far: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        driver, _, option = text.partition("=")
        key, equals, value = option.partition("=")
        if not driver or not key or not equals:
            raise ValueError(f"invalid value {values.quoted(text)} for map option, should be root-key=key=value")
        return {**so_far, driver: {**so_far.get(driver, {}), key: value}}

    def decode(value: Any) -> dict[str, dict[str, str]]:
        return {driver: _texts(options) for driver, options in object_of(value).items()}

    return Setting(Flag(name, "", usage, "mapmap", {}, parse, show="map[]"), f"{name}s", decode)


def features(name: str, usage: str, known: Callable[[str, bool], None], **more: Any) -> Setting:
    """NAME, NAME=false, and {"NAME": false}. ``known`` raises ValueError for what cannot be."""

    def parse(text: str, so_far: dict[str, bool]) -> dict[str, bool]:
        feature, equals, value = text.partition("=")
        return so_far | decode({feature: values.parse_bool(value) if equals else True})

    def decode(value: Any) -> dict[str, bool]:
        for feature, on in object_of(value).items():
            known(feature, _boolean(on))
        return dict(value)

    return Setting(Flag(name, "", usage, "set", {}, parse, show="map[]"), f"{name}s", decode, **more)


# What a value must be


def one_of(words: Sequence[str], wrong: str) -> Check:
    """``wrong`` is what is said of another word, which goes into its {}."""

    def check(text: str) -> str:
        if text not in words:
            raise ValueError(wrong.format(text))
        return text

    return check


def pair(text: str) -> str:
    if "=" not in text or text.startswith("="):
        raise ValueError(f"{values.quoted(text)} is not KEY=VALUE")
    return text


def label(text: str) -> str:
    if "=" not in text or text.startswith("="):
        raise ValueError(f"bad attribute format: {text}")
    return text


def address(text: str) -> str:
    """An address of IPv4 or 6, "" for none."""
    import ipaddress

    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise ValueError(f"failed to parse IP: {values.quoted(text)}") from None


def interface_address(version: int) -> Check:
    """An address with the length of its network, "10.1.0.1/16"; "" for none."""

    def check(text: str) -> str:
        import ipaddress

        try:
            if text and ("/" not in text or ipaddress.ip_interface(text).version != version):
                raise ValueError
        except ValueError:
            raise ValueError(f"invalid CIDR address: {text}: it is to be one of IPv{version}") from None
        return text

    return check


def mirror(text: str) -> str:
    scheme, separator, host = text.partition("://")
    if scheme not in ("http", "https") or not host:
        scheme = scheme if separator else ""
        raise ValueError(f"invalid mirror: unsupported scheme {values.quoted(scheme)} in {values.quoted(text)}")
    return text
