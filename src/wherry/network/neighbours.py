"""Other firewalls on this host: those that drop what is forwarded are told to let containers through.

A packet has to be accepted by every chain that sees it, so wherry's own rules are not enough beside a forward policy of
drop (Docker's, ufw's, an administrator's). What wherry would not have it has dropped before they are asked, so for its
bridges they may accept everything. In Docker's firewall there is a chain for such rules; elsewhere they go to the top.
"""

import shlex
import shutil
import subprocess
from collections.abc import Sequence

from wherry.linux.errors import SyscallError
from wherry.linux.nft_expressions import ACCEPT, DROP, comes_by, counter, leaves_by, verdict
from wherry.linux.nftables import BRIDGE, FORWARD, Nftables, Table

_DOCKER_USER = "DOCKER-USER"
_LEGACY = (("iptables-legacy", "/proc/net/ip_tables_names"), ("ip6tables-legacy", "/proc/net/ip6_tables_names"))
_SECONDS = 5


class Neighbours:
    """What is inserted bears the comment ``mark``, by which it is found again."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._firewall = Nftables()

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
        requests = []
        wanted = {f"{self._mark}:{bridge}": bridge for bridge in bridges}
        for table, chain in self._places():
            missing = dict(wanted)
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
        """Where to insert, the table and the chain: those that would drop, or have our rules already."""
        found = []
        for base in self._firewall.base_chains():
            if base.hook != FORWARD or base.table.family == BRIDGE:
                continue
            ours = any(rule.comment.startswith(f"{self._mark}:") for rule in self._firewall.rules(base.table))
            if base.policy != DROP and not ours:
                continue
            chains = self._firewall.chains(base.table)
            found.append((base.table, _DOCKER_USER if _DOCKER_USER in chains else base.name))
        return found


def _update_legacy(program: str, tables: str, mark: str, bridges: Sequence[str]) -> None:
    """The iptables of before nftables cannot be reached by netlink. Only where somebody uses it, and drops."""
    try:
        with open(tables, encoding="ascii") as file:
            in_use = "filter" in file.read().split()
    except OSError:
        return
    if not in_use or shutil.which(program) is None:
        return
    lines = [shlex.split(line) for line in _run(program, "-S").splitlines()]
    chain = _DOCKER_USER if ["-N", _DOCKER_USER] in lines else "FORWARD"
    ours = [words for words in lines if any(word.startswith(f"{mark}:") for word in words)]
    if ["-P", "FORWARD", "DROP"] not in lines and not ours:
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
    command = [program, "-w", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False).stdout
