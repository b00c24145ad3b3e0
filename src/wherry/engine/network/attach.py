"""Containers on networks: connected when they start, let go when they end, and changed while they run.

Before a start everything is decided here (addresses, names of interfaces, ports) and written into the container's
record and the runtime's spec; the monitor then does it. An engine that comes up reads it back from the records.
"""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wherry.common.errors import Conflict, EngineError, Forbidden, InvalidParameter, NotFound
from wherry.engine.container.config import check_connect
from wherry.engine.container.store import ContainerEntry
from wherry.engine.context import Context, Service
from wherry.engine.network import endpoint, links, options
from wherry.engine.network.drivers import NetworkDrivers
from wherry.engine.network.names import Naming
from wherry.engine.network.networks import Networks
from wherry.engine.network.ports import PortMapper, check_bindings
from wherry.model.container import Container, ContainerConfig, HostConfig
from wherry.model.network import Attachment, EndpointSettings, Network, NetworkingConfig
from wherry.network.ruleset import Link
from wherry.runtime.monitor_client import Monitor, MonitorGone, StartError
from wherry.runtime.spec import Interface

log = logging.getLogger("wherry.network")


class Sandbox(NamedTuple):
    """What a container's start needs to know of its networks. ``environment`` comes from links."""

    interfaces: tuple[Interface, ...] = ()
    resolver: bool = False
    environment: tuple[str, ...] = ()


class NetworkEndpoints(Service):
    def __init__(self, context: Context, networks: Networks, drivers: NetworkDrivers) -> None:
        super().__init__(context)
        self._networks = networks
        self._drivers = drivers
        self._naming = Naming(context.entries, context.config)
        self._port_mapper = PortMapper(drivers, proxy=context.config.userland_proxy)
        self._links: dict[str, list[Link]] = {}
        self._linking: dict[str, ContainerEntry] = {}  # those that run and have links

    # --- create

    def plan(
        self, config: ContainerConfig, host: HostConfig, networking: NetworkingConfig
    ) -> tuple[dict[str, EndpointSettings], dict[str, Attachment]]:
        """The networks of a container that is being made, by the names they have, and what goes with them.

        One that is not there yet is no error before the start, as in Docker. Raises InvalidParameter and Conflict.
        """
        if host.network_mode.startswith("container:") or config.network_disabled is True:
            return {}, {}
        asked = {name: each or EndpointSettings() for name, each in networking.endpoints_config.items()}
        if not asked or not any(self._is_same(name, host.network_mode) for name in asked):
            asked = {host.network_mode: EndpointSettings(), **asked}
        found: dict[str, EndpointSettings] = {}
        attachments = {}
        for name, settings in asked.items():
            with contextlib.suppress(NotFound):
                network = self._networks.get(name)
                if network.driver in ("host", "null") and len(asked) > 1:
                    raise Conflict(
                        "container cannot be connected to multiple networks with one of the networks in "
                        f"{'host' if network.driver == 'host' else 'private (none)'} mode"
                    )
                # Docker's rule: the container's own address is for the network that it was made with.
                if config.mac_address and not found:
                    settings.mac_address = settings.mac_address or config.mac_address
                try:
                    endpoint.check(network, settings)
                except InvalidParameter as error:
                    raise InvalidParameter(f"invalid config for network {name}: {error.message}") from None
                name = network.name
            asked_mac = settings.mac_address or ((config.mac_address or "") if not found else "")
            attachments[name] = Attachment(asked_mac)
            endpoint.clear(settings, attachments[name])
            found[name] = settings
        return found, attachments

    def check(self, record: Container) -> None:
        """Raises InvalidParameter for ports and links that cannot be."""
        check_bindings(record)
        links.check(record, self._entries)

    def _is_same(self, name: str, other: str) -> bool:
        try:
            return self._networks.get(name).id == self._networks.get(other).id
        except (NotFound, InvalidParameter):
            return name == other

    # --- start and end

    def prepare(self, entry: ContainerEntry) -> Sandbox:
        """Addresses, ports, links and files for a start. Raises EngineError, and then nothing of it stays."""
        record = entry.record
        if record.host_config.network_mode.startswith("container:"):
            return Sandbox()
        linked = links.resolve(record, self._entries)
        taken: list[Network] = []
        try:
            for network in self._networks_of(record):
                self._drivers.make(network)
                endpoint.connect(record, network, self._drivers)
                taken.append(network)
            endpoint.name_interfaces(record, taken)
            self._port_mapper.publish(record, taken)
            self._link(record, linked)
            if linked:
                self._linking[record.id] = entry
        except BaseException:
            self._release(record, taken)
            raise
        resolver = any(not network.is_predefined for network in taken)
        self._naming.write_files(record, taken, self._host_gateways())
        return Sandbox(tuple(self._interfaces(record, taken)), resolver, links.environment(record, linked))

    def started(self, entry: ContainerEntry, monitor: Monitor) -> None:
        """The container runs: from now on it is found by its names, and its questions are answered."""
        networks = self._all_networks_of(entry.record)
        with_interfaces = _with_interfaces(networks)
        self._naming.introduce(entry.record)
        self._naming.serve(entry, monitor, with_interfaces)
        for network in with_interfaces:
            endpoint.announce(entry.record, network, self._drivers)
        for network in networks:
            self._tell(network, entry.record, "connect")
        self._follow_links(entry.record)

    def ended(self, entry: ContainerEntry) -> None:
        """The container does not run any more, or has not come to run."""
        record = entry.record
        if record.host_config.network_mode.startswith("container:"):
            return
        networks = []
        for name, settings in record.networks.items():
            with contextlib.suppress(NotFound):
                if settings.endpoint_id:
                    networks.append(self._networks.get(name))
        for network in networks:
            self._tell(network, record, "disconnect")
        self._release(record, networks)

    def adopt(self, entry: ContainerEntry, monitor: Monitor) -> None:
        """Takes over a container that an earlier engine started: all is as before."""
        record = entry.record
        for network in self._networks_of(record):
            try:
                endpoint.adopt(record, network, self._drivers)
                self._drivers.make(network)
                self._isolate(record, network)
            except EngineError as error:
                log.warning("network %s of container %s: %s", network.name, record.name, error.message)
        self._port_mapper.take_over(record, self._networks_of(record))
        self._naming.introduce(record)
        self._naming.serve(entry, monitor, self._networks_of(record))

    def adopted(self) -> None:
        """All containers that run are known: so their links can be told, and what an engine that was killed had given
        to one that has not come to run is free again."""
        for entry in self._entries:
            if entry.record.state.running:
                if links.of(entry.record, self._entries):
                    self._linking[entry.record.id] = entry
                    self._link(entry.record, links.running(entry.record, self._entries))
                self._naming.know_files(entry.record, self._networks_of(entry.record), self._host_gateways())
            else:
                for name, settings in entry.record.networks.items():
                    endpoint.clear(settings, entry.record.attachments.setdefault(name, Attachment()))

    def warnings(self, host: HostConfig) -> list[str]:
        """What a container that is to be made has to do without."""
        return [] if host.network_mode in ("none", "host") else self._drivers.warnings()

    def close(self) -> None:
        self._naming.close()
        self._port_mapper.close()
        in_use = {
            network.name
            for entry in self._entries
            if entry.record.state.running
            for network in self._networks_of(entry.record)
        }
        self._drivers.close(in_use)

    # --- while it runs

    async def connect(self, name: str, container: str, asked: EndpointSettings | None) -> None:
        """``network connect``. Raises NotFound, Forbidden, InvalidParameter, EngineError."""
        network, entry = self._networks.get(name), self._entries.get(container)
        settings = asked or EndpointSettings()
        async with entry.lock:
            record = entry.record
            check_connect(record, network)
            endpoint.check(network, settings)
            if network.name in record.networks:
                raise Forbidden(f"endpoint with name {record.name} already exists in network {network.name}")
            record.networks[network.name] = settings
            record.attachments[network.name] = Attachment(asked_mac=settings.mac_address)
            endpoint.clear(settings, record.attachments[network.name])
            try:
                if entry.monitor is not None:
                    await self._connect_live(entry, entry.monitor, network)
            except MonitorGone:
                await entry.ended.wait()  # which gives the address back: the network is for its next run
            except BaseException:
                self._forget(entry, network.name)
                raise
            self._entries.save(entry)
        if entry.monitor is not None:
            self._tell(network, record, "connect")

    async def _connect_live(self, entry: ContainerEntry, monitor: Monitor, network: Network) -> None:
        record = entry.record
        self._drivers.make(network)
        endpoint.connect(record, network, self._drivers)
        endpoint.name_interfaces(record, [network])
        self._entries.save(entry)  # lest an engine that is killed now forgets whose address it is
        networks = self._networks_of(record)
        try:
            self._port_mapper.publish(record, networks)
            gateways = self._gateways(record, networks).get(network.name, ())
            wanted = endpoint.interface(record, network, self._drivers, gateways)
            self._isolate(record, network)
            await monitor.connect(wanted, resolver=not network.is_predefined)
        except MonitorGone:
            raise
        except BaseException as error:
            self._publish_without(record, network)
            self._leave(record, network)
            if isinstance(error, StartError):
                raise EngineError(f"failed to set up container networking: {error.message}") from None
            raise
        self._naming.renew_files(record, networks, self._host_gateways())
        self._naming.introduce(record)
        self._naming.serve(entry, monitor, networks)
        endpoint.announce(record, network, self._drivers)
        self._follow_links(record)

    async def disconnect(self, name: str, container: str, *, force: bool) -> None:
        """``network disconnect``. Raises NotFound, Forbidden, EngineError."""
        try:
            entry = self._entries.get(container)
        except NotFound:
            if force:
                self._networks.get(name)
                raise NotFound(f"endpoint {container} not found") from None
            raise
        async with entry.lock:
            record = entry.record
            try:
                network = self._networks.get(name)
            except NotFound:
                if entry.monitor is not None or name not in record.networks:
                    raise
                self._forget(entry, name)  # it was removed while the container did not run, which it now may again
                return
            if network.driver == "host" and record.host_config.network_mode == "host":
                raise Conflict(
                    "cannot disconnect container from host network - container was created in host network mode"
                )
            if network.name not in record.networks:
                raise EngineError(f"container {record.id} is not connected to network {network.name}")
            if entry.monitor is not None and record.networks[network.name].endpoint_id:
                try:
                    await self._disconnect_live(entry, entry.monitor, network)
                    self._tell(network, record, "disconnect")
                except MonitorGone:
                    await entry.ended.wait()  # which has disconnected it from all
            self._forget(entry, network.name)

    def _forget(self, entry: ContainerEntry, name: str) -> None:
        entry.record.networks.pop(name, None)
        entry.record.attachments.pop(name, None)
        self._entries.save(entry)

    async def _disconnect_live(self, entry: ContainerEntry, monitor: Monitor, network: Network) -> None:
        record = entry.record
        networks = [each for each in self._networks_of(record) if each.name != network.name]
        gateways = self._gateways(record, networks).items()
        routes = tuple((record.attachments[name].interface, each) for name, found in gateways for each in found)
        if network.driver != "null":
            try:
                await monitor.disconnect(record.attachments[network.name].interface, routes)
            except MonitorGone:
                raise
            except StartError as error:
                raise EngineError(error.message) from None
        self._publish_without(record, network)
        self._leave(record, network)
        self._naming.renew_files(record, networks, self._host_gateways())
        self._naming.update(entry, networks)
        self._follow_links(record)

    def _publish_without(self, record: Container, network: Network) -> None:
        """Its ports are from now on reached by another network, if there is one."""
        if self._port_mapper.is_by(record, network):
            self._port_mapper.withdraw(record)
        try:
            self._port_mapper.publish(record, [each for each in self._networks_of(record) if each.name != network.name])
        except EngineError as error:
            log.warning("container %s: %s", record.name, error.message)

    def unlink(self, name: str) -> None:
        """Takes the link "web/db" away: what is known of db to web. Raises NotFound, Conflict, InvalidParameter."""
        parent, slash, alias = name.strip("/").partition("/")
        if not slash:
            raise EngineError("Conflict, cannot remove the default link name of the container")
        entry = self._entries.get(parent)
        if not links.remove(entry.record, alias):
            raise NotFound(f"No such link: {name}")
        self._entries.save(entry)
        if entry.record.state.running:
            self._follow(entry.record)

    def renamed(self, entry: ContainerEntry) -> None:
        if entry.record.state.running:
            for network in self._networks_of(entry.record):
                settings = entry.record.networks[network.name]
                if settings.dns_names is not None:
                    settings.dns_names = endpoint.names(entry.record, settings)
            self._naming.introduce(entry.record)

    # --- parts

    def _networks_of(self, record: Container) -> list[Network]:
        """The container's networks that have interfaces. Raises NotFound."""
        return _with_interfaces(self._all_networks_of(record))

    def _all_networks_of(self, record: Container) -> list[Network]:
        found = []
        for name, settings in record.networks.items():
            network = self._networks.get(name)
            settings.network_id = network.id
            if network.driver in ("host", "null"):
                settings.endpoint_id = settings.endpoint_id or record.id
            found.append(network)
        return found

    def _interfaces(self, record: Container, networks: Sequence[Network]) -> Iterable[Interface]:
        gateways = self._gateways(record, networks)
        for network in networks:
            self._isolate(record, network)
            yield endpoint.interface(record, network, self._drivers, gateways.get(network.name, ()))

    def _gateways(self, record: Container, networks: Sequence[Network]) -> dict[str, tuple[str, ...]]:
        """By which of its networks the default routes lead: for each version of IP the best that has a gateway."""
        found: dict[str, tuple[str, ...]] = {}
        for field in ("gateway", "ipv6_gateway"):
            gateways = {each.name: getattr(record.networks[each.name], field) for each in networks}
            for network in endpoint.in_order(record, networks):
                if gateway := gateways[network.name]:
                    found[network.name] = (*found.get(network.name, ()), gateway)
                    break
        return found

    def _isolate(self, record: Container, network: Network) -> None:
        rules = self._drivers.rules
        if rules is not None and not options.truth(network.options, options.ICC, default=True):
            rules.isolate(record.attachments[network.name].host_interface)

    def _release(self, record: Container, networks: Iterable[Network]) -> None:
        self._naming.stop(record.id)
        self._port_mapper.withdraw(record)
        self._linking.pop(record.id, None)
        if self._drivers.rules is not None:
            self._drivers.rules.unlink(self._links.pop(record.id, []))
        for network in networks:
            self._leave(record, network)

    def _leave(self, record: Container, network: Network) -> None:
        settings = record.networks[network.name]
        self._naming.forget(network, settings.endpoint_id)
        if self._drivers.rules is not None:
            self._drivers.rules.forget_port(record.attachments[network.name].host_interface)
        endpoint.disconnect(record, network, self._drivers)

    def _link(self, record: Container, linked: list[links.Linked]) -> None:
        wanted, rules = links.rules(record, linked), self._drivers.rules
        if rules is not None and (wanted or record.id in self._links):
            rules.unlink(self._links.pop(record.id, []))
            rules.link(wanted)
            self._links[record.id] = wanted

    def _follow(self, record: Container) -> None:
        """Its links are others than before, or lead elsewhere."""
        self._link(record, links.running(record, self._entries))
        self._naming.renew_files(record, self._networks_of(record), self._host_gateways())

    def _follow_links(self, target: Container) -> None:
        """Tells containers that link to one which has been started again where it is now."""
        for entry in list(self._linking.values()):
            if entry.record.id == target.id or not entry.record.state.running:
                continue
            if any(each.target.record.id == target.id for each in links.of(entry.record, self._entries)):
                self._follow(entry.record)

    def _host_gateways(self) -> list[str]:
        """This host, as containers reach it."""
        if self._config.host_gateway_ips:
            return list(self._config.host_gateway_ips)
        return [pool.gateway for pool in self._drivers.pools(self._networks.get("bridge"))]

    def _tell(self, network: Network, record: Container, action: str) -> None:
        attributes = {"container": record.id, "name": network.name, "type": network.driver}
        self._events.publish("network", action, network.id, attributes)


def _with_interfaces(networks: Iterable[Network]) -> list[Network]:
    return [network for network in networks if network.driver not in ("host", "null")]
