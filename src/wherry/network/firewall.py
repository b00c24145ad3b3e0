"""The firewall's rules in the kernel: one transaction a change. What they are is in ``ruleset``."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterable, Sequence

from wherry.linux import nftables
from wherry.linux.files import IN_CLOSE, Inotify
from wherry.linux.netlink import Conntrack, Request
from wherry.linux.nft_expressions import ACCEPT, DROP, comes_by, counter, leaves_by, verdict
from wherry.linux.nftables import BRIDGE, FORWARD, NEWGEN, Nftables, Table, table_name
from wherry.linux.syscalls import SyscallError
from wherry.network.bridge import at_home, is_elsewhere, open_firewall, open_route
from wherry.network.ruleset import BridgeRules, Link, Published, Ruleset, interfaces, link_element, published_elements

# Datagrams under way when a port is published or withdrawn: their senders are not to go on as if it were not.

_VERSIONS = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANY = ("0.0.0.0", "::")


def forget_conntrack(ports: Iterable[Published]) -> None:
    """Has the kernel look at the rules again for what is sent to these ports by UDP, soon: it has to look through all
    that it remembers. Elsewhere a connection that leads nowhere ends, and the next one finds its way."""
    wanted = {(each.host_address, each.host_port) for each in ports if each.protocol == "udp" and each.host_port}
    if wanted:
        asyncio.get_running_loop().run_in_executor(None, _forget, wanted)


def _forget(ports: set[tuple[str, int]]) -> None:
    with (
        contextlib.suppress(OSError),
        at_home(Conntrack) as tracking,
        open_route() as route,
    ):  # a kernel may have none
        own = {address.partition("/")[0] for _, address in route.addresses()}
        for version in {ipaddress.ip_address(address).version for address, _ in ports}:
            any_address = _ANY[version == 6]
            tracking.forget(
                flow
                for flow in tracking.flows(_VERSIONS[version], socket.IPPROTO_UDP)
                if (flow.destination, flow.port) in ports
                or ((any_address, flow.port) in ports and flow.destination in own)
            )


class Rules:
    """The tables of one engine, both of the name ``table``."""

    def __init__(self, table: str, uplink: str) -> None:
        self.table = table
        self._ruleset = Ruleset(table, uplink)
        self._firewall = open_firewall()
        self._made = False

    @classmethod
    def open(cls, table: str, uplink: str = "") -> "Rules | None":
        """None where the kernel has not all that is needed: tried in a transaction that is taken back."""
        with contextlib.suppress(OSError):
            rules = cls(table, uplink)
            try:
                rules._firewall.commit(*rules._ruleset.everything(), *rules._ruleset.nothing())
            except SyscallError:
                rules.close()
                raise
            return rules
        return None

    @property
    def port(self) -> int:
        """The address of the socket by which changes are made."""
        return self._firewall.port

    @property
    def bridges(self) -> list[str]:
        """The bridges, with those behind others."""
        return [*self._ruleset.bridges, *self._ruleset.extensions]

    def close(self) -> None:
        self._firewall.close()

    def keep_apart(self, version: int, interfaces: Iterable[str]) -> None:
        """Nothing is forwarded between these interfaces: they were not connected before this host became a router."""
        self._ruleset.apart[version] = tuple(interfaces)

    def add_bridge(self, bridge: BridgeRules) -> None:
        self._ruleset.bridges[bridge.interface] = bridge
        self.write()

    def remove_bridge(self, interface: str) -> None:
        """Removes a bridge's rules; with the last one the tables go, too."""
        if self._ruleset.bridges.pop(interface, None) is not None:
            if self._ruleset.bridges:
                self.write()
            elif self._made:
                self._firewall.commit(*self._ruleset.nothing())
                self._made = False

    def extend(self, extension: str) -> None:
        """A bridge behind another, to which the rules are applied."""
        self._ruleset.extensions[extension] = None
        self._change(*self._ruleset.inet.add("bridges-behind", interfaces([extension])))

    def forget_extension(self, extension: str) -> None:
        if extension in self._ruleset.extensions:
            del self._ruleset.extensions[extension]
            self._change(*self._ruleset.inet.remove("bridges-behind", interfaces([extension])))

    def publish(self, ports: Iterable[Published]) -> None:
        new = dict.fromkeys(ports)
        self._ruleset.published |= new
        self._change(*published_elements(new, self._ruleset.inet.add))
        forget_conntrack(new)

    def withdraw(self, ports: Iterable[Published]) -> None:
        old = [port for port in ports if port in self._ruleset.published]
        for port in old:
            del self._ruleset.published[port]
        self._change(*published_elements(old, self._ruleset.inet.remove))
        forget_conntrack(old)

    def isolate(self, interface: str) -> None:
        """The port ``interface`` of a bridge without communication between its containers."""
        self._ruleset.isolated[interface] = None
        self._change(*self._ruleset.bridge.add("isolated-ports", interfaces([interface])))

    def forget_port(self, interface: str) -> None:
        if interface in self._ruleset.isolated:
            del self._ruleset.isolated[interface]
            self._change(*self._ruleset.bridge.remove("isolated-ports", interfaces([interface])))

    def link(self, links: Iterable[Link]) -> None:
        """Each is counted: two containers may be linked twice."""
        new = [each for each in links if not self._ruleset.links.get(each)]
        for each in links:
            self._ruleset.links[each] = self._ruleset.links.get(each, 0) + 1
        self._change(
            *self._ruleset.inet.add("links", map(link_element, new)),
            *self._ruleset.bridge.add("links", map(link_element, new)),
        )

    def unlink(self, links: Iterable[Link]) -> None:
        old = []
        for each in links:
            count = self._ruleset.links.get(each, 0) - 1
            if count > 0:
                self._ruleset.links[each] = count
            elif each in self._ruleset.links:
                del self._ruleset.links[each]
                old.append(link_element(each))
        self._change(*self._ruleset.inet.remove("links", old), *self._ruleset.bridge.remove("links", old))

    def write(self) -> None:
        """Everything anew, in one transaction: there is no moment without rules. Raises SyscallError."""
        if self._ruleset.bridges:
            self._firewall.commit(*self._ruleset.everything())
            self._made = True

    def _change(self, *requests: Request) -> None:
        if not requests or not self._made:
            return
        try:
            self._firewall.commit(*requests)
        except SyscallError as error:
            if error.errno not in (errno.ENOENT, errno.EEXIST):
                raise
            self.write()  # somebody has changed our table, and is overruled


# Other firewalls on this host: those that stop what is forwarded are told to let containers through.
#
# A packet has to be accepted by every chain that sees it, so wherry's own rules are not enough beside a forward chain
# whose policy is drop (Docker's, ufw's, an administrator's) or that refuses in its last rule (firewalld's, that of Red
# Hat's systems). What wherry would not have it has dropped before they are asked, so for its bridges they may accept
# everything. In Docker's firewall there is a chain for such rules; elsewhere they go to the top.

_OURS = "wherry"  # what the tables' names of all engines begin with
_DOCKER_USER = "DOCKER-USER"
_LEGACY = (("iptables-legacy", "/proc/net/ip_tables_names"), ("ip6tables-legacy", "/proc/net/ip6_tables_names"))
_LEGACY_LOCK = "/run/xtables.lock"
_OUR_LOCK = "/run/wherry-xtables.lock"
_SECONDS = 5


class ForeignFirewalls:
    """What is inserted bears the comment ``mark``, by which it is found again."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._firewall = open_firewall()

    @property
    def port(self) -> int:
        """The address of the socket by which changes are made."""
        return self._firewall.port

    def close(self) -> None:
        self._firewall.close()

    def let_through(self, bridges: Sequence[str]) -> None:
        """Brings the other firewalls' rules for ``bridges`` up to date; none takes back everything."""
        try:
            self._update(bridges)
        except SyscallError:
            self._update(bridges)  # they were being changed at the same time
        for program, tables in _LEGACY:
            _update_legacy(program, tables, self._mark, bridges)

    def _update(self, bridges: Sequence[str]) -> None:
        wanted = {f"{self._mark}:{bridge}": bridge for bridge in bridges}
        for table, chain in self._places():
            requests, missing = [], dict(wanted)
            for rule in self._firewall.rules(table):
                if rule.comment.startswith(f"{self._mark}:"):
                    if rule.chain == chain and rule.comment in wanted:
                        missing.pop(rule.comment, None)
                    else:
                        requests.append(table.delete_rule(rule.chain, rule.handle))
            for comment, bridge in missing.items():
                for match in (comes_by(bridge), leaves_by(bridge)):
                    expressions = (match, counter(), verdict(ACCEPT))
                    requests.append(table.rule(chain, *expressions, comment=comment, at_the_top=True))
            if requests:
                self._firewall.commit(*requests)

    def _places(self) -> list[tuple[Table, str]]:
        """Where to insert, the table and the chain: those that would stop packets, or have our rules already."""
        found = []
        for base in self._firewall.base_chains():
            if base.hook != FORWARD or base.table.family == BRIDGE or base.table.name.startswith(_OURS):
                continue
            rules = self._firewall.rules(base.table)
            ours = any(rule.comment.startswith(f"{self._mark}:") for rule in rules)
            refuses = any(rule.refuses for rule in rules if rule.chain == base.name)
            if base.policy != DROP and not ours and not refuses:
                continue
            chains = self._firewall.chains(base.table)
            found.append((base.table, _DOCKER_USER if _DOCKER_USER in chains else base.name))
        return found


def _is_used(program: str, tables: str) -> bool:
    """Whether somebody filters by the iptables of before nftables."""
    if is_elsewhere():
        return False
    try:
        with open(tables, encoding="ascii") as file:
            return "filter" in file.read().split() and shutil.which(program) is not None
    except OSError:
        return False


def _update_legacy(program: str, tables: str, mark: str, bridges: Sequence[str]) -> None:
    """It cannot be reached by netlink."""
    if not _is_used(program, tables):
        return
    lines = [shlex.split(line) for line in _run(program, "-S").splitlines()]
    chain = _DOCKER_USER if ["-N", _DOCKER_USER] in lines else "FORWARD"
    ours = [words for words in lines if any(word.startswith(f"{mark}:") for word in words)]
    refusing = [["-P", "FORWARD", "DROP"], ["-A", "FORWARD", "-j", "DROP"]]
    if not ours and not any(line in refusing or line[:4] == ["-A", "FORWARD", "-j", "REJECT"] for line in lines):
        return
    wanted = [
        [chain, direction, bridge, "-m", "comment", "--comment", f"{mark}:{bridge}", "-j", "ACCEPT"]
        for bridge in bridges
        for direction in ("-i", "-o")
    ]
    there = [words[1:] for words in ours]
    for rule in there:
        if rule not in wanted:
            _run(program, "-D", *rule)
    for rule in wanted:
        if rule not in there:
            _run(program, "-I", *rule)


def _run(program: str, *arguments: str) -> str:
    """Looks do not take the lock that tells of changes: a table is read as a whole."""
    command = [program, "-w", *arguments]
    lock = {"XTABLES_LOCKFILE": _OUR_LOCK} if arguments == ("-S",) else {}
    environment = {**os.environ, **lock}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment
    ).stdout


# Rules that stay: what others do to the firewall is heard of, and put right.

log = logging.getLogger("wherry.network")

_CALM = 0.05  # seconds that others have to finish their changes


class FirewallWatch:
    """Has ``rules``. From the first ``update`` on they are put back when somebody flushes them, and other firewalls are
    told when somebody sets them up anew."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._foreign = ForeignFirewalls(rules.table)
        self._watch: Nftables | None = None
        self._lock: Inotify | None = None
        self._calm: asyncio.TimerHandle | None = None
        self._flushed = False

    def update(self) -> None:
        """Tells other firewalls which bridges there are."""
        try:
            self._foreign.let_through(self.rules.bridges)
        except OSError as error:
            log.warning("another firewall on this host could not be told to let containers through: %s", error)
        if self._watch is None:
            self._watch = open_firewall(nftables.GROUP)
            asyncio.get_running_loop().add_reader(self._watch, self._hear, self._watch)
        if self._lock is None and any(_is_used(*legacy) for legacy in _LEGACY):
            # The kernel tells nobody of changes by the iptables of before nftables, but that locks a file for each.
            with (
                contextlib.suppress(OSError),
                open(_LEGACY_LOCK, "a", opener=lambda path, flags: os.open(path, flags, 0o600)),
            ):
                self._lock = Inotify()
                self._lock.watch(_LEGACY_LOCK, IN_CLOSE)
                asyncio.get_running_loop().add_reader(self._lock, self._hear_legacy, self._lock)

    def close(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch)
            self._watch.close()
        if self._lock is not None:
            asyncio.get_running_loop().remove_reader(self._lock)
            self._lock.close()
        if self._calm is not None:
            self._calm.cancel()
        self._foreign.close()
        self.rules.close()

    def _hear(self, watch: Nftables) -> None:
        try:
            told = watch.notifications()
        except OSError:  # too much at once: some of it is lost
            self._flushed = True
            self._look_soon()
            return
        for message in told:
            if message.kind == NEWGEN or message.port in (self.rules.port, self._foreign.port):
                continue
            table = table_name(message)
            if table == self.rules.table:
                self._flushed = True
            if table == self.rules.table or not table.startswith(_OURS):  # those of other engines are their business
                self._look_soon()

    def _hear_legacy(self, lock: Inotify) -> None:
        for _ in lock.events():
            self._look_soon()

    def _look_soon(self) -> None:
        if self._calm is None:
            self._calm = asyncio.get_running_loop().call_later(_CALM, self._put_right)

    def _put_right(self) -> None:
        self._calm = None
        if not self.rules.bridges:
            return
        try:
            if self._flushed:
                self.rules.write()
                self._flushed = False
        except SyscallError as error:
            log.warning("the firewall's rules could not be put back: %s", error)
        self.update()
