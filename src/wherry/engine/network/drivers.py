"""What networks are made of on this host: their pools of addresses, their bridges, the firewall's rules.

A bridge is made when its network is; the default one when a container first needs it, so that an engine which nobody
uses leaves the host as it is. What is there of an earlier engine is found by its name and used on.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable

from wherry.common.errors import EngineError, Forbidden, InvalidParameter
from wherry.engine.config import EngineConfig
from wherry.engine.network import options
from wherry.model.network import Attachment, IpamPool, Network
from wherry.network import bridge, ipam, user_mode
from wherry.network.bridge import BridgeError, BridgePorts, Device, GratuitousArp, move_to, uplink
from wherry.network.firewall import FirewallWatch, Rules
from wherry.network.ipam import AddressError, IpNetwork, Pool
from wherry.network.ruleset import BridgeRules
from wherry.network.user_mode import UserModeNetwork

log = logging.getLogger("wherry.network")

_DEFAULT_ROOT = EngineConfig().data_root
_DEFAULT_BRIDGE = "wherry0"


class NetworkDrivers:
    """``instance`` tells engines of one machine from each other: "" for the one with the default data root."""

    def __init__(self, engine_id: str, config: EngineConfig) -> None:
        self._engine_id = engine_id
        self._config = config
        self._user_mode: UserModeNetwork | None = None
        if config.bridge_namespace:
            move_to(config.bridge_namespace)
            self._user_mode = UserModeNetwork(config.bridge_namespace, f"{config.bridge_namespace}.pid")
        self._instance = instance = (
            ""
            if config.rootless or config.data_root == _DEFAULT_ROOT
            else hashlib.sha256(config.data_root.encode()).hexdigest()[:6]
        )
        self._default_bridge = f"wherry{instance}" if instance else _DEFAULT_BRIDGE
        self._forwarding_mark = f"{config.exec_root}/forwarding"
        self._pools: dict[str, list[Pool]] = {}
        self._networks: dict[str, Network] = {}
        self._made: set[str] = set()
        self._mtus: dict[str, int] = {}
        self._ports = BridgePorts()
        self._gratuitous_arp = GratuitousArp()
        self._strangers: set[tuple[str, str]] = set()  # addresses whose last hardware address was not their own
        self.on_settled: Callable[[Network], None] = lambda network: None
        table = f"wherry-{instance}" if instance else "wherry"
        uplink = user_mode.INTERFACE if self._user_mode is not None else ""
        rules = Rules.open(table, uplink) if config.iptables else None
        self._watch = FirewallWatch(rules) if rules is not None else None
        if config.iptables and rules is None:
            log.warning("this kernel has no nftables, so no firewall rules are made: published ports are forwarded by "
                        "the engine itself, and containers reach nothing outside")  # fmt: skip

    @property
    def rules(self) -> Rules | None:
        """None where no firewall rules are made."""
        return self._watch.rules if self._watch is not None else None

    def warnings(self) -> list[str]:
        """What containers on bridges have to do without here."""
        lack = self._user_mode.lack if self._user_mode is not None else ""
        return [f"Containers reach nothing outside of their networks: {lack}"] if lack else []

    # --- networks

    def register(self, network: Network) -> None:
        """Makes a network known, and settles its subnets. Raises InvalidParameter and Forbidden."""
        if network.driver not in ("host", "null"):
            self._settle(network)
        self._networks[network.id] = network

    def add(self, network: Network) -> None:
        """A new network: known and there, or neither. Raises EngineError."""
        with bridge.choosing():
            self._check_bridge(network)
            self.register(network)
            try:
                self.make(network)
            except BaseException:
                self.forget(network)
                raise

    def _settle(self, network: Network) -> None:
        wanted = [pool for pool in network.ipam.config if pool.subnet]
        versions = {ipam.network_of(pool.subnet).version for pool in wanted}
        try:
            if network.enable_ipv4 and 4 not in versions and network.ipam.driver != "null":
                wanted.insert(0, IpamPool(subnet=ipam.choose_subnet(self._taken(network), self._address_pools(4))))
            if network.enable_ipv6 and 6 not in versions and network.ipam.driver != "null":
                wanted.append(IpamPool(subnet=self._choose_subnet_6(network)))
            pools = []
            for asked in wanted:
                pool = Pool(
                    asked.subnet,
                    ip_range=asked.ip_range,
                    gateway=asked.gateway,
                    reserved=asked.auxiliary_addresses,
                )
                self._check_overlap(network, pool.subnet)
                asked.subnet, asked.gateway = str(pool.subnet), pool.gateway
                pools.append(pool)
        except AddressError as error:
            raise InvalidParameter(str(error)) from None
        network.ipam.config = wanted
        self._pools[network.id] = pools

    def _address_pools(self, version: int) -> list[tuple[str, int]]:
        """The pools that the settings name; none stands for those that there are by default."""
        pools = ((pool.base, pool.size) for pool in self._config.default_address_pools)
        return [pool for pool in pools if ipam.network_of(pool[0]).version == version]

    def _choose_subnet_6(self, network: Network) -> str:
        pools, taken = self._address_pools(6), self._taken(network)
        return ipam.choose_subnet(taken, pools) if pools else ipam.choose_subnet_6(taken, self._engine_id)

    def usage(self, network: Network) -> dict[str, dict[str, int]]:
        """The API's SubnetStatus of each subnet: its numbers have 64 bits."""
        return {
            str(pool.subnet): {"IPsInUse": pool.used, "DynamicIPsAvailable": min(pool.free, (1 << 64) - 1)}
            for pool in self._pools.get(network.id, ())
        }

    def discard(self, network: Network) -> None:
        """Removes the bridge, with other addresses, that a killed engine may have left."""
        bridge.remove(self.bridge_name(network), network.id)

    def _check_bridge(self, network: Network) -> None:
        """Raises Forbidden for one that another network has."""
        name = self.bridge_name(network)
        for other in self._networks.values():
            if network.driver == other.driver == "bridge" and self.bridge_name(other) == name:
                raise Forbidden(
                    f"cannot create network {network.id} ({name}): conflicts with network {other.id} ({name}): "
                    "networks have same bridge name"
                )

    def _check_overlap(self, network: Network, subnet: IpNetwork) -> None:
        for other_id, pools in self._pools.items():
            both_bridges = network.driver == "bridge" == self._networks[other_id].driver
            overlaps = any(ipam.overlap(subnet, pool.subnet) for pool in pools)
            if other_id != network.id and both_bridges and overlaps:
                raise Forbidden("Pool overlaps with other one on this address space")

    def _taken(self, network: Network) -> list[IpNetwork]:
        own = [pool.subnet for key, pools in self._pools.items() if key != network.id for pool in pools]
        return [*bridge.host_networks(except_for=self.bridge_name(network)), *own]

    def bridge_name(self, network: Network) -> str:
        named = network.options.get(options.NAME)
        if named:
            return named
        return self._default_bridge if network.name == "bridge" else f"br-{network.id[:12]}"

    def _interface(self, network: Network) -> str:
        return self.bridge_name(network) if network.driver == "bridge" else self.parent(network)[0]

    def host_interface(self, endpoint_id: str) -> str:
        """What the host's end of a container's interface is called."""
        return f"veth{self._instance[:4]}{endpoint_id[:7]}"

    def parent(self, network: Network) -> tuple[str, bool]:
        """The host's interface that a macvlan or ipvlan network is on, and whether it is made for it."""
        named = network.options.get("parent", "")
        return (named, False) if named else (f"dm-{network.id[:12]}", True)

    def mtu(self, network: Network) -> int:
        """The MTU of the network's bridge; of one that is not there yet, what it would get."""
        return self._mtus.get(network.id) or options.mtu(network) or bridge.host_mtu()

    def pools(self, network: Network) -> list[Pool]:
        return self._pools.get(network.id, [])

    def announce(self, network: Network, attachment: Attachment, mac: str, addresses: Iterable[str]) -> None:
        """Tells the neighbours on a bridge who has these addresses now, unless they know: every port gets a copy of it,
        and most hardware addresses belong to their addresses, whoever has them."""
        if network.driver != "bridge":
            return
        is_extended = self._ports.is_extended(network.id)
        if is_extended:
            bridge.place(mac, attachment.host_interface)
        news = [each for each in addresses if is_extended or self._is_news(network, mac, each)]
        if news:
            self._gratuitous_arp.announce(attachment.bridge, mac, news)

    def _is_news(self, network: Network, mac: str, address: str) -> bool:
        """Whether a neighbour may remember another hardware address for this one."""
        was_strange = (network.id, address) in self._strangers
        self._strangers.discard((network.id, address))
        return was_strange or _is_strange(mac, address)

    def make(self, network: Network) -> None:
        """Has everything that a container on the network needs be there. Raises EngineError."""
        if network.id in self._made and bridge.exists(self._interface(network)):
            return
        if self.rules is None and not options.truth(network.options, options.ICC, default=True):
            raise EngineError(
                f"network {network.name} cannot keep its containers apart: no firewall rules are made here"
            )
        try:
            if network.name == "bridge":
                with bridge.choosing():
                    self._settle_default(network)
                    self._make_bridge(network)
            elif network.driver == "bridge":
                self._make_bridge(network)
            elif network.driver in ("macvlan", "ipvlan"):
                name, is_ours = self.parent(network)
                if is_ours:
                    bridge.make_stub(name)
                elif not bridge.exists(name):
                    bridge.make_vlan(name, network.id)
        except BridgeError as error:
            raise EngineError(str(error)) from None
        self._made.add(network.id)

    def _make_bridge(self, network: Network) -> None:
        if self._user_mode is not None and not network.internal:
            self._user_mode.start()
        name = self.bridge_name(network)
        pools = self.pools(network)
        own = tuple(
            f"{pool.gateway}/{pool.length}" for pool in pools if not options.is_strange(network, pool.subnet.version)
        )  # fmt: skip
        self._mtus[network.id] = mtu = options.mtu(network) or bridge.host_mtu()
        bridge.make(Device(name, network.id, mtu, own))
        if self._watch is not None:
            versions = sorted({pool.subnet.version for pool in pools})
            forwarded = versions if self._config.ip_forward else []
            self._prepare_forwarding(forwarded, self._watch.rules)
            self._watch.rules.add_bridge(
                BridgeRules(
                    name,
                    tuple(options.subnet(network, pool.subnet) for pool in pools),
                    internal=network.internal,
                    icc=options.truth(network.options, options.ICC, default=True),
                    trusted=options.trusted(network),
                )
            )
            for version in forwarded:
                bridge.set_forwarding(version, on=True)
            if not network.internal:
                bridge.allow_localhost(name)
            self._watch.update()

    def plug(self, network: Network) -> str:
        """The bridge that the interface of one more container is to be a port of. Raises BridgeError."""
        if network.driver != "bridge":
            return ""
        name = self._ports.take(Device(self.bridge_name(network), network.id, self._mtus.get(network.id, 0), ()))
        self._extend(network, name)
        return name

    def give_back(self, network: Network, address: str, mac: str = "") -> None:
        """An address that a container had, at ``mac`` if it came to run."""
        if mac and _is_strange(mac, address):
            self._strangers.add((network.id, address))
        for pool in self.pools(network):
            if address in pool:
                pool.release(address)

    def adopt_port(self, network: Network, name: str) -> None:
        """Notes the port of a container that runs."""
        self._ports.adopt(name)
        self._extend(network, name)

    def unplug(self, name: str) -> None:
        if name:
            self._ports.release(name)

    def _extend(self, network: Network, name: str) -> None:
        if self._watch is None or name == self.bridge_name(network) or name in self._watch.rules.bridges:
            return
        self._watch.rules.extend(name)
        if not options.truth(network.options, options.ICC, default=True):
            self._watch.rules.isolate(uplink(name))  # among its own ports, the bridge behind it keeps order
        self._watch.update()

    def _settle_default(self, network: Network) -> None:
        """The host may have got routes since the default network's subnet was chosen; one from the settings stays."""
        if bridge.exists(self.bridge_name(network)):
            return
        taken, fixed = self._taken(network), options.pools_of_the_default_bridge(self._config)
        chosen = [
            pool.subnet for pool in self.pools(network) if str(pool.subnet) not in {each.subnet for each in fixed}
        ]
        if any(ipam.overlap(subnet, other) for subnet in chosen for other in taken):
            network.ipam.config = fixed
            self._settle(network)
            self.on_settled(network)

    def forget(self, network: Network) -> None:
        """Removes what was made for it."""
        self._networks.pop(network.id, None)
        self._pools.pop(network.id, None)
        self._strangers = {each for each in self._strangers if each[0] != network.id}
        self._unmake(network)

    def _unmake(self, network: Network) -> None:
        self._made.discard(network.id)
        if network.driver == "bridge":
            name = self.bridge_name(network)
            extensions = self._ports.remove(network.id)
            if self._watch is not None:
                for extension in extensions:
                    self._watch.rules.forget_extension(extension)
                    self._watch.rules.forget_port(uplink(extension))
                self._watch.rules.remove_bridge(name)
                self._watch.update()
            bridge.remove(name, network.id)
        elif network.driver in ("macvlan", "ipvlan"):
            name, is_ours = self.parent(network)
            if is_ours:
                bridge.remove_stub(name)
            else:
                bridge.remove(name, network.id)

    def close(self, in_use: set[str]) -> None:
        """Lets go. While containers run their networks stay, ``in_use`` by name; otherwise nothing does."""
        if not in_use:
            for network in list(self._networks.values()):
                self._unmake(network)
            self._stop_forwarding()
            if self._user_mode is not None:
                self._user_mode.stop()
        self._gratuitous_arp.close()
        if self._watch is not None:
            self._watch.close()

    # --- forwarding

    def _prepare_forwarding(self, versions: Iterable[int], rules: Rules) -> None:
        """This host is to become a router. One that was none goes on being none between its other interfaces."""
        for version in versions:
            if not bridge.forwards(version):
                with open(self._forwarding_mark, "a", encoding="ascii") as file:
                    file.write(f"{version} {' '.join(bridge.interfaces())}\n")
        for version, names in self._switched_on().items():
            rules.keep_apart(version, names)

    def _stop_forwarding(self) -> None:
        """Unless somebody else has come to need it: another engine, or virtual machines."""
        for version in self._switched_on() if not bridge.any_left() else ():
            bridge.set_forwarding(version, on=False)
        if os.path.exists(self._forwarding_mark):
            os.unlink(self._forwarding_mark)

    def _switched_on(self) -> dict[int, list[str]]:
        """The versions of IP that this host forwards for us alone, with the interfaces that it had before."""
        try:
            with open(self._forwarding_mark, encoding="ascii") as file:
                lines = [line.split() for line in file]
        except FileNotFoundError:
            return {}
        return {int(version): names for version, *names in lines}


def _is_strange(mac: str, address: str) -> bool:
    """Whether somebody who has the address after this one has another hardware address."""
    return ":" in address or mac != ipam.mac_for(address)
