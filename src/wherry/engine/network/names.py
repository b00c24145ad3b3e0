"""How containers find each other by name: the name service on user-defined networks, and the files below /etc.

``networks`` are everywhere those that a container has interfaces on.
"""

from collections.abc import Sequence

from wherry.engine.config import EngineConfig
from wherry.engine.container.store import ContainerEntry, ContainerStore, parse_link
from wherry.engine.network import host_files, links
from wherry.model.container import Container
from wherry.model.network import Network
from wherry.network import bridge
from wherry.network.dns import Asker, Directory, NameService, open_inside
from wherry.runtime.monitor_client import Monitor


class Naming:
    def __init__(self, entries: ContainerStore, config: EngineConfig) -> None:
        self._entries = entries
        self._config = config
        self._containers = f"{config.data_root}/containers"
        self._directory = Directory()
        self._service = NameService(self._directory)
        self._files: dict[str, host_files.Files] = {}

    def introduce(self, record: Container) -> None:
        """From now on, the others on its networks find it."""
        for name, settings in record.networks.items():
            if settings.dns_names and settings.endpoint_id:
                addresses = (settings.ip_address, settings.global_ipv6_address)
                self._directory.add(name, settings.endpoint_id, settings.dns_names, addresses)

    def forget(self, network: Network, endpoint_id: str) -> None:
        self._directory.remove(network.name, endpoint_id)

    def serve(self, entry: ContainerEntry, monitor: Monitor, networks: Sequence[Network]) -> None:
        """Answers its questions, once it has somebody to put them to."""
        sockets = monitor.take_resolver()
        if sockets is not None:
            self._service.serve(entry.record.id, Asker(), *sockets)
        self.update(entry, networks)

    def update(self, entry: ContainerEntry, networks: Sequence[Network]) -> None:
        """Its networks are others than before."""
        record, asker = entry.record, self._service.asker(entry.record.id)
        if asker is None:
            return
        asker.networks = tuple(network.name for network in networks if not network.is_predefined)
        asker.links = {}
        for name in asker.networks:
            texts = list(record.networks[name].links or ())
            if name == record.host_config.network_mode:
                texts += record.host_config.links or ()
            for text in texts:
                target, alias = parse_link(text)
                asker.links[alias.lower()] = (name, target)
        asker.servers = ()
        servers = host_files.with_defaults(record.host_config, self._config).dns
        if servers:
            asker.servers = tuple(servers)
            asker.opens = open_inside(record.state.pid or (entry.monitor.pid if entry.monitor else 0))
        elif any(not network.internal for network in networks):
            asker.servers = tuple(bridge.name_servers(host_files.read("/etc/resolv.conf")))

    def stop(self, container_id: str) -> None:
        self._service.stop(container_id)
        self._files.pop(container_id, None)

    def write_files(self, record: Container, networks: Sequence[Network], gateways: Sequence[str]) -> None:
        """For a start. ``gateways`` are what "host-gateway" stands for."""
        self._files[record.id] = files = self._compose(record, networks, gateways)
        host_files.write(record, f"{self._containers}/{record.id}", files)

    def know_files(self, record: Container, networks: Sequence[Network], gateways: Sequence[str]) -> None:
        """They were written by an earlier engine."""
        self._files[record.id] = self._compose(record, networks, gateways)

    def renew_files(self, record: Container, networks: Sequence[Network], gateways: Sequence[str]) -> None:
        """The container runs, and is called otherwise, is elsewhere or has other links than before."""
        before, after = self._files[record.id], self._compose(record, networks, gateways)
        host_files.renew(f"{self._containers}/{record.id}", before, after)
        self._files[record.id] = after

    def _compose(self, record: Container, networks: Sequence[Network], gateways: Sequence[str]) -> host_files.Files:
        full = ".".join(filter(None, (record.config.hostname, record.config.domainname)))
        own_names = " ".join(dict.fromkeys((full, full.partition(".")[0])))
        lines: list[tuple[str, str]] = []
        for network in networks:
            settings = record.networks[network.name]
            lines += [(each, own_names) for each in (settings.ip_address, settings.global_ipv6_address) if each]
        lines += links.hosts(links.running(record, self._entries))
        resolver = any(not network.is_predefined for network in networks)
        return host_files.compose(record, self._config, own=lines, resolver=resolver, gateways=gateways)

    def close(self) -> None:
        self._service.close()
