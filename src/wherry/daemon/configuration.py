"""What the daemon is told: by its command line and by daemon.json, each setting by one of the two."""

import json
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from wherry.common import places
from wherry.common.errors import EngineError
from wherry.common.flags import Options
from wherry.common.settings import OBJECTS, SETTINGS
from wherry.engine.config import EngineConfig
from wherry.linux import user_namespaces
from wherry.model.container import LogConfig

_BY_KEY = {setting.key: setting for setting in SETTINGS if setting.key}
_FORMER = "host-gateway-ip"  # one address, until Docker 29
_SECRET = ("http-proxy", "https-proxy")


class ConfigurationError(Exception):
    """What the daemon is told cannot be: one line, for the person who started it."""


class Configuration:
    """The value of each setting by its key in daemon.json."""

    def __init__(self, options: Options) -> None:
        """Raises ConfigurationError."""
        self._options = options
        self.values = {key: options[setting.flag.name] for key, setting in _BY_KEY.items()}
        self.path = str(options["config-file"])
        self.rootless = options["rootless"]
        if self.rootless or os.geteuid() != 0:
            self._use_places_of_user()
        self.values |= self._read_file()
        for root in ("data-root", "exec-root"):
            self.values[root] = os.path.abspath(self.values[root])
        self.values["hosts"] = self.values["hosts"] or [f"unix://{self.values['exec-root']}/wherry.sock"]
        self.values["labels"] = _without_conflicts(self.values["labels"])
        self._check()

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def engine(self) -> EngineConfig:
        return msgspec.convert({**self.values, "rootless": self.rootless}, EngineConfig)

    def _use_places_of_user(self) -> None:
        """By default, what an ordinary user's engine has lies below that user's own folders."""
        if self.rootless and user_namespaces.is_initial():
            raise ConfigurationError("--rootless is for an ordinary user: start the engine as one, and leave it out")
        user = user_namespaces.extents()[0].outside if self.rootless else os.geteuid()
        try:
            found = {"data-root": places.data_root(), "exec-root": places.exec_root(user)}
        except places.NotPrivate as error:
            raise ConfigurationError(str(error)) from None
        self.values |= {key: path for key, path in found.items() if not self._options.changed(key)}
        if not self._options.changed("config-file"):
            self.path = places.config_file()

    def read_again(self) -> tuple["Configuration", list[str]]:
        """What the same command line and the file say now, and the keys that changed but need the daemon to be started
        again: they are as before. Raises ConfigurationError."""
        found, kept = Configuration(self._options), []
        for key, setting in _BY_KEY.items():
            if found.values[key] != self.values[key] and not setting.reloads:
                found.values[key] = self.values[key]
                kept.append(key)
        return found, kept

    def _read_file(self) -> dict[str, Any]:
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            if not self._options.changed("config-file"):
                return {}
            raise self._wrong(f"open {self.path}: no such file or directory") from None
        except OSError as error:
            raise self._wrong(f"open {self.path}: {error.strerror}") from None
        found = _flat(self._parse(data))
        self._check_known(found)
        self._check_conflicts(found)
        values = {}
        for key, value in found.items():
            try:
                values[key] = _BY_KEY[key].decode(value)
            except ValueError as error:
                raise self._wrong(f"{key}: {error}") from None
        return values

    def _parse(self, data: bytes) -> dict[str, Any]:
        """Windows' editors begin a file with a mark, which says that it is UTF-16, or UTF-8."""
        is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        try:
            text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
            found = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"invalid JSON: {error}") from None
        if not isinstance(found, dict):
            raise self._wrong("invalid JSON: this is to be an object")
        return found

    def _check_known(self, found: Mapping[str, Any]) -> None:
        unknown = sorted(set(found).difference(_BY_KEY))
        if unknown:
            raise self._wrong(f"the following directives don't match any configuration option: {', '.join(unknown)}")

    def _check_conflicts(self, found: Mapping[str, Any]) -> None:
        conflicts = []
        for key in sorted(found):
            name = _BY_KEY[key].flag.name
            if self._options.changed(name):
                told = [_shown(key, value) for value in (self._options[name], found[key])]
                conflicts.append(f"{key}: (from flag: {told[0]}, from file: {told[1]})")
        if conflicts:
            raise self._wrong(
                "the following directives are specified both as a flag and in the configuration file: "
                + ", ".join(conflicts)
            )

    def _wrong(self, text: str) -> ConfigurationError:
        return ConfigurationError(f"unable to configure the wherry daemon with file {self.path}: {text}")

    def _check(self) -> None:
        """What several settings say together."""
        if not self["icc"] and not self["iptables"]:
            raise ConfigurationError("--icc=false needs the firewall: leave out --iptables=false")
        if not self["ipv6"] and (self["bip6"] or self["fixed-cidr-v6"]):
            raise ConfigurationError("--bip6 and --fixed-cidr-v6 are for a default network with --ipv6")
        for bridge, fixed in (("bip", "fixed-cidr"), ("bip6", "fixed-cidr-v6")):
            if self[bridge] and self[fixed] and not _is_within(self[fixed], self[bridge]):
                raise ConfigurationError(f"--{fixed} {self[fixed]} is not in the network of --{bridge} {self[bridge]}")
        for name in self["authorization-plugins"]:
            _check_plugin(name)
        if self["init-path"] and not os.access(self["init-path"], os.X_OK):
            raise ConfigurationError(f"--init-path {self['init-path']}: there is no such program")
        if self["log-opts"] or self["log-driver"] != _BY_KEY["log-driver"].flag.default:
            _check_log(LogConfig(self["log-driver"], self["log-opts"]))


# What few settings need is imported when one of them is given: a client may wait for the engine's first word.


def _check_plugin(name: str) -> None:
    from wherry.engine.plugins import find_address

    if find_address(name) is None:
        raise ConfigurationError(f'authorization plugin: plugin "{name}" not found')


def _check_log(config: LogConfig) -> None:
    from wherry.engine.container import logs

    try:
        logs.check_log_config(config)
    except EngineError as error:
        raise ConfigurationError(error.message) from None


def _is_within(part: str, whole: str) -> bool:
    from wherry.network import ipam

    part_of, network = ipam.network_of(part), ipam.network_of(whole)
    return part_of.prefixlen >= network.prefixlen and ipam.overlap(part_of, network)


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """{"proxies": {"no-proxy": "x"}} is {"no-proxy": "x"}."""
    flat: dict[str, Any] = {}
    for key, value in found.items():
        flat |= value if isinstance(value, dict) and key not in OBJECTS else {key: value}
    if isinstance(flat.get(_FORMER), str):
        flat.setdefault(f"{_FORMER}s", [flat.pop(_FORMER)])
    return flat


def _without_conflicts(labels: list[str]) -> list[str]:
    found: dict[str, str] = {}
    for label in labels:
        key, _, value = label.partition("=")
        if found.setdefault(key, value) != value:
            raise ConfigurationError(f"conflict labels for {key}={value} and {key}={found[key]}")
    return [f"{key}={value}" for key, value in found.items()]


def _shown(key: str, value: Any) -> str:
    """A value as Docker writes it: [a b], map[a:b], true."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{name}:{_shown('', value[name])}" for name in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(_shown("", each) for each in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if key in _SECRET:
        from wherry.registry.http import masked

        return masked(str(value))
    return str(value)
