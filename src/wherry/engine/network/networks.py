"""Networks as the user sees them: made, listed, looked at, removed. What they are in the kernel is the drivers's."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from wherry.common import times
from wherry.common.errors import Conflict, Forbidden, InvalidParameter, NotFound
from wherry.engine.context import Context, Service
from wherry.engine.events import boolean, check_known, labels_pass, name_filter
from wherry.engine.network import options
from wherry.engine.network.drivers import NetworkDrivers
from wherry.model.network import EndpointSettings, Network, NetworkCreate

log = logging.getLogger("wherry.network")

_ID = re.compile(r"[0-9a-f]{1,64}")
_LIST_FILTERS = {"dangling", "driver", "id", "label", "name", "scope", "type"}
_PRUNE_FILTERS = {"label", "label!", "until"}
_DRIVER_OF = {"bridge": "bridge", "host": "host", "none": "null"}


class Networks(Service):
    def __init__(self, context: Context, drivers: NetworkDrivers) -> None:
        super().__init__(context)
        self._database = database = context.database
        self._drivers = drivers
        self._encode = msgspec.json.Encoder().encode
        self._by_id: dict[str, Network] = {}
        self._by_name: dict[str, Network] = {}
        database.migrate("networks", ["CREATE TABLE networks (id TEXT PRIMARY KEY, body BLOB NOT NULL)"])
        decoder = msgspec.json.Decoder(Network)
        for (body,) in database.query("SELECT body FROM networks"):
            network = decoder.decode(body)
            if network.name == "bridge":
                self._set_up_default(network)
            self._know(network)
            drivers.register(network)
        drivers.on_settled = self._save
        for name, driver in _DRIVER_OF.items():
            if name not in self._by_name:
                network = Network(os.urandom(32).hex(), name, times.now(), driver)
                if name == "bridge":
                    self._set_up_default(network)
                drivers.register(network)
                self._save(network)

    def _set_up_default(self, network: Network) -> None:
        """Sets the default network up as the settings say; while containers run on it, it keeps its addresses."""
        network.options = options.of_the_default_bridge(self._config)
        if self._users(network):
            log.info("the default network keeps its addresses while containers run on it")
            return
        network.enable_ipv6 = self._config.ipv6
        network.ipam.config = options.pools_of_the_default_bridge(self._config)
        self._drivers.discard(network)

    def get(self, name: str) -> Network:
        """Finds it by full id, name, or the unambiguous beginning of an id. Raises NotFound and InvalidParameter."""
        if name in self._by_id:
            return self._by_id[name]
        name = "bridge" if name == "default" else name
        if name in self._by_name:
            return self._by_name[name]
        matches = [n for key, n in self._by_id.items() if key.startswith(name)] if _ID.fullmatch(name) else []
        if len(matches) > 1:
            raise InvalidParameter(f"network {name} is ambiguous ({len(matches)} matches found based on ID prefix)")
        if not matches:
            raise NotFound(f"network {name} not found")
        return matches[0]

    def create(self, asked: NetworkCreate) -> dict[str, Any]:
        """Raises Conflict for a name that is taken, InvalidParameter and Forbidden for what cannot be."""
        asked.options = self._config.default_network_opts.get(asked.driver or "bridge", {}) | asked.options
        options.check(asked)
        if asked.name in (*_DRIVER_OF, "default"):
            raise Forbidden(f"operation is not permitted on predefined {asked.name} network")
        if not asked.name.strip():
            raise InvalidParameter(f"invalid name: {asked.name}")
        if asked.name in self._by_name:
            raise Conflict(f"network with name {asked.name} already exists")
        network = Network(
            id=os.urandom(32).hex(),
            name=asked.name,
            created=times.now(),
            driver=asked.driver or "bridge",
            enable_ipv4=bool(asked.enable_ipv4),
            enable_ipv6=bool(asked.enable_ipv6),
            internal=asked.internal,
            attachable=asked.attachable,
            ipam=asked.ipam,
            options=asked.options,
            labels=asked.labels,
        )
        self._drivers.add(network)
        self._save(network)
        self._publish(network, "create")
        return {"Id": network.id, "Warning": ""}

    def remove(self, name: str) -> None:
        """Raises Forbidden for a predefined one and while containers are connected to it."""
        network = self.get(name)
        if network.is_predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        users = self._users(network)
        if users:
            listed = ", ".join(f'name:"{name}" id:"{endpoint.endpoint_id[:12]}"' for _, name, endpoint in users)
            raise Forbidden(f"error while removing network: network {network.name} has active endpoints ({listed})")
        self._drivers.forget(network)
        self._database.execute("DELETE FROM networks WHERE id = ?", (network.id,))
        del self._by_id[network.id], self._by_name[network.name]
        self._publish(network, "destroy")

    def prune(self, filters: Mapping[str, list[str]]) -> dict[str, Any]:
        """Removes the networks that no container has, running or not."""
        check_known(filters, _PRUNE_FILTERS)
        before = min((times.parse_timestamp(moment) for moment in filters.get("until", ())), default=None)
        removed = []
        for network in list(self._by_id.values()):
            if network.is_predefined or self._is_wanted(network) or (before is not None and network.created >= before):
                continue
            if not labels_pass(network.labels, filters):
                continue
            self.remove(network.id)
            removed.append(network.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return {"NetworksDeleted": removed or None}

    def inspect(self, name: str, *, scope: str = "") -> dict[str, Any]:
        network = self.get(name)
        if scope not in ("", "local"):
            raise NotFound(f"network {name} not found")
        found = self.describe(network)
        found["Containers"] = {
            container_id: {
                "Name": container,
                "EndpointID": endpoint.endpoint_id,
                "MacAddress": endpoint.mac_address,
                "IPv4Address": _with_length(endpoint.ip_address, endpoint.ip_prefix_len),
                "IPv6Address": _with_length(endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len),
            }
            for container_id, container, endpoint in self._users(network)
        }
        found["Status"] = {"IPAM": {"Subnets": self._drivers.usage(network)}}
        return found

    def describe(self, network: Network) -> dict[str, Any]:
        """The API's Network, without who is connected to it."""
        config = [msgspec.to_builtins(pool) for pool in network.ipam.config]
        return {
            "Name": network.name,
            "Id": network.id,
            "Created": times.rfc3339(network.created),
            "Scope": "local",
            "Driver": network.driver,
            "EnableIPv4": network.enable_ipv4,
            "EnableIPv6": network.enable_ipv6,
            "IPAM": {
                "Driver": network.ipam.driver or "default",
                "Options": network.ipam.options,
                "Config": config or (None if network.is_predefined else []),
            },
            "Internal": network.internal,
            "Attachable": network.attachable,
            "Ingress": False,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": {},
            "Options": self._options(network),
            "Labels": network.labels,
        }

    def _options(self, network: Network) -> dict[str, str]:
        """The options; of the default network also what scripts look up there: its bridge's name and its MTU."""
        if network.name != "bridge":
            return network.options
        name, mtu = self._drivers.bridge_name(network), self._drivers.mtu(network)
        return network.options | {options.NAME: name, options.MTU: str(mtu)}

    def _users(self, network: Network) -> list[tuple[str, str, EndpointSettings]]:
        """The id, the name and the endpoint of each container that runs on it."""
        return [
            (entry.record.id, entry.record.name, endpoint)
            for entry in self._entries
            for name, endpoint in entry.record.networks.items()
            if name == network.name and endpoint.endpoint_id
        ]

    def _is_wanted(self, network: Network) -> bool:
        return any(network.name in entry.record.networks for entry in self._entries)

    def _passes(self, network: Network, filters: Mapping[str, list[str]]) -> bool:
        if filters.get("dangling") and _dangling(filters["dangling"]) == (
            network.is_predefined or self._is_wanted(network)
        ):
            return False
        if filters.get("type"):
            kind = "builtin" if network.is_predefined else "custom"
            for value in filters["type"]:
                if value not in ("builtin", "custom"):
                    raise InvalidParameter(f"invalid filter: 'type'='{value}'")
            if kind not in filters["type"]:
                return False
        tests: dict[str, Callable[[str], bool]] = {
            "driver": lambda value: value == network.driver,
            "id": lambda value: network.id.startswith(value),
            "scope": lambda value: value == "local",
        }
        for name, test in tests.items():
            if filters.get(name) and not any(test(value) for value in filters[name]):
                return False
        return labels_pass(network.labels, filters)

    def _know(self, network: Network) -> None:
        self._by_id[network.id] = self._by_name[network.name] = network

    def _save(self, network: Network) -> None:
        self._know(network)
        body = self._encode(network)
        self._database.execute("INSERT OR REPLACE INTO networks (id, body) VALUES (?, ?)", (network.id, body))

    def _publish(self, network: Network, action: str) -> None:
        self._events.publish("network", action, network.id, {"name": network.name, "type": network.driver})

    def list(self, filters: Mapping[str, list[str]]) -> list[dict[str, Any]]:
        check_known(filters, _LIST_FILTERS)
        wanted = [name_filter(text) for text in filters.get("name", ())]
        return [
            self.describe(network)
            for network in self._by_id.values()
            if self._passes(network, filters) and (not wanted or any(finds(network.name) for finds in wanted))
        ]


def _with_length(address: str, length: int) -> str:
    return f"{address}/{length}" if address else ""


def _dangling(values: list[str]) -> bool:
    try:
        return boolean("dangling", values)
    except InvalidParameter:
        text = 'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'
        raise InvalidParameter(text) from None
