"""How containers find each other by name: the name service on user-defined networks, and the files below /etc.

``networks`` are everywhere those that a container has interfaces on.
"""

import ipaddress
import os
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from wherry.engine.config import EngineConfig
from wherry.engine.container.store import ContainerEntry, ContainerStore, parse_link
from wherry.engine.network import links
from wherry.model.container import Container, HostConfig
from wherry.model.network import Network
from wherry.network import bridge
from wherry.network.dns import Asker, Directory, NameService, open_inside
from wherry.runtime.monitor_client import Monitor
from wherry.runtime.network import RESOLVER

# The three files of the host's that every container has its own of: hostname, hosts and resolv.conf.

_LOCAL_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_STUB = "127.0.0.53"  # systemd-resolved, which containers do not reach
_BEHIND_STUB = "/run/systemd/resolve/resolv.conf"
_AT_MOST = 1 << 20
_PUBLIC_NAMESERVERS = (
    "8.8.8.8",
    "8.8.4.4",
    "2001:4860:4860::8888",
    "2001:4860:4860::8844",
)  # what Docker falls back to


class Files(NamedTuple):
    """What hosts and resolv.conf hold."""

    hosts: str
    resolver: str


def compose(
    container: Container,
    engine: EngineConfig,
    *,
    own: Sequence[tuple[str, str]] = (),
    gateways: Sequence[str] = (),
    resolver: bool = False,
) -> Files:
    """``own`` are (address, names) of the container itself and of whom it links to, ``gateways`` what "host-gateway"
    stands for; with ``resolver`` the name service is asked."""
    host = with_defaults(container.host_config, engine)
    shares_host = host.network_mode == "host"
    start = read("/etc/hosts") if shares_host and not host.extra_hosts else _LOCAL_HOSTS
    hosts = _hosts(host, start, gateways) + "".join(f"{address}\t{names}\n" for address, names in own)
    of_the_host = read("/etc/resolv.conf") if shares_host else of_resolver()
    if resolver:
        return Files(hosts, _inner_resolv_conf(host, of_the_host))
    return Files(hosts, resolv_conf(host, of_the_host, keep_local=shares_host))


def with_defaults(host: HostConfig, engine: EngineConfig) -> HostConfig:
    """What a container does not say of names, the engine's settings do."""
    return msgspec.structs.replace(
        host,
        dns=host.dns or list(engine.dns),
        dns_search=host.dns_search or list(engine.dns_search),
        dns_options=host.dns_options or list(engine.dns_opts),
    )


def write(container: Container, directory: str, files: Files) -> None:
    """Into the container's directory; it sees them below /etc."""
    _put(f"{directory}/hostname", container.config.hostname + "\n")
    _put(f"{directory}/hosts", files.hosts)
    _put(f"{directory}/resolv.conf", files.resolver)


def renew(directory: str, before: Files, after: Files) -> None:
    """While the container runs, which may have written into them itself: the lines that it has added to hosts stay, and
    its resolv.conf does when it is not as it was."""
    hosts = read(f"{directory}/hosts")
    known = set(before.hosts.splitlines())
    added = [line for line in hosts.splitlines() if line not in known]
    _put(f"{directory}/hosts", after.hosts + "".join(f"{line}\n" for line in added))
    if read(f"{directory}/resolv.conf") == before.resolver:
        _put(f"{directory}/resolv.conf", after.resolver)


def of_resolver() -> str:
    """The host's resolver configuration: where systemd-resolved stands between, the one that it has itself."""
    text = read("/etc/resolv.conf")
    return (read(_BEHIND_STUB) or text) if _is_stub(text) else text


def _is_stub(text: str) -> bool:
    return [words[1] for words in _words(text, "nameserver")] == [_STUB]


def resolv_conf(host: HostConfig, of_the_host: str, *, keep_local: bool) -> str:
    """The host's resolver configuration with the container's own servers, search list and options in their places.

    Name servers on the host's loopback cannot be reached from another network namespace, so they are left out there.
    """
    servers, search, options = list(host.dns or []), list(host.dns_search or []), list(host.dns_options or [])
    lines = [line.split() for line in of_the_host.splitlines()]
    if not servers:
        found = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
        servers = [server for server in found if keep_local or not _is_loopback(server)]
        servers = servers or list(_PUBLIC_NAMESERVERS)
    if not search:
        search = [name for words in lines if words and words[0] in ("search", "domain") for name in words[1:]]
    if not options:
        options = [option for words in lines if words and words[0] == "options" for option in words[1:]]
    text = "".join(f"nameserver {server}\n" for server in servers)
    if search and search != ["."]:
        text += f"search {' '.join(search)}\n"
    if options:
        text += f"options {' '.join(options)}\n"
    return text


def _inner_resolv_conf(host: HostConfig, of_the_host: str) -> str:
    """The file of containers that ask the name service; whom it asks in turn is noted, for people who look."""
    asked = ", ".join(host.dns or [words[1] for words in _words(of_the_host, "nameserver")[:3]])
    options = host.dns_options or [option for words in _words(of_the_host, "options") for option in words[1:]]
    if not any(option.startswith("ndots:") for option in options):
        options = [*options, "ndots:0"]
    search = host.dns_search or [name for words in _words(of_the_host, "search", "domain") for name in words[1:]]
    text = f"# Written by wherry. Names that are not of this network are looked up at: {asked or 'nowhere'}\n"
    text += f"nameserver {RESOLVER}\n"
    if search and search != ["."]:
        text += f"search {' '.join(search)}\n"
    return text + f"options {' '.join(options)}\n"


def _words(text: str, *keys: str) -> list[list[str]]:
    lines = (line.split() for line in text.splitlines())
    return [words for words in lines if len(words) > 1 and words[0] in keys]


def _hosts(host: HostConfig, start: str, gateways: Sequence[str]) -> str:
    lines = start if start.endswith("\n") else start + "\n"
    for entry in host.extra_hosts or []:
        name, _, address = entry.partition(":")
        for each in gateways if address == "host-gateway" else (address,):
            lines += f"{each}\t{name}\n"
    return lines


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


def read(path: str) -> str:
    """The first mebibyte: a container can write into its files as much as it likes."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(_AT_MOST)
    except FileNotFoundError:
        return ""


def _put(path: str, text: str) -> None:
    # Written in place: a running container has the file itself mounted, and would not see another one.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


class Naming:
    def __init__(self, entries: ContainerStore, config: EngineConfig) -> None:
        self._entries = entries
        self._config = config
        self._containers = f"{config.data_root}/containers"
        self._directory = Directory()
        self._service = NameService(self._directory)
        self._files: dict[str, Files] = {}

    def introduce(self, record: Container) -> None:
        """Has the others on its networks find it."""
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
        servers = with_defaults(record.host_config, self._config).dns
        if servers:
            asker.servers = tuple(servers)
            asker.opens = open_inside(record.state.pid or (entry.monitor.pid if entry.monitor else 0))
        elif any(not network.internal for network in networks):
            asker.servers = tuple(bridge.name_servers(read("/etc/resolv.conf")))

    def stop(self, container_id: str) -> None:
        self._service.stop(container_id)
        self._files.pop(container_id, None)

    def write_files(self, record: Container, networks: Sequence[Network], gateways: Sequence[str]) -> None:
        """Writes the files for a start. ``gateways`` are what "host-gateway" stands for."""
        self._files[record.id] = files = self._compose(record, networks, gateways)
        write(record, f"{self._containers}/{record.id}", files)

    def know_files(self, record: Container, networks: Sequence[Network], gateways: Sequence[str]) -> None:
        """They were written by an earlier engine."""
        self._files[record.id] = self._compose(record, networks, gateways)

    def renew_files(self, record: Container, networks: Sequence[Network], gateways: Sequence[str]) -> None:
        """The container runs, and is called otherwise, is elsewhere or has other links than before."""
        before, after = self._files[record.id], self._compose(record, networks, gateways)
        renew(f"{self._containers}/{record.id}", before, after)
        self._files[record.id] = after

    def _compose(self, record: Container, networks: Sequence[Network], gateways: Sequence[str]) -> Files:
        full = ".".join(filter(None, (record.config.hostname, record.config.domainname)))
        own_names = " ".join(dict.fromkeys((full, full.partition(".")[0])))
        lines: list[tuple[str, str]] = []
        for network in networks:
            settings = record.networks[network.name]
            lines += [(each, own_names) for each in (settings.ip_address, settings.global_ipv6_address) if each]
        lines += links.hosts(links.running(record, self._entries))
        resolver = any(not network.is_predefined for network in networks)
        return compose(record, self._config, own=lines, resolver=resolver, gateways=gateways)

    def close(self) -> None:
        self._service.close()
