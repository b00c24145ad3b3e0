"""Rules that stay: what others do to the firewall is heard of, and put right."""

import asyncio
import logging

from wherry.linux import nftables
from wherry.linux.errors import SyscallError
from wherry.linux.nftables import NEWGEN, Nftables, table_name
from wherry.network.neighbours import Neighbours
from wherry.network.rules import Rules

log = logging.getLogger("wherry.network")

_CALM = 0.05  # seconds that others have to finish their changes
_OURS = "wherry"  # what the tables' names of all engines begin with


class Keeper:
    """Has ``rules``. From the first ``update`` on they are put back when somebody flushes them, and other firewalls are
    told when somebody sets them up anew."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._neighbours = Neighbours(rules.table)
        self._watch: Nftables | None = None
        self._calm: asyncio.TimerHandle | None = None
        self._flushed = False

    def update(self) -> None:
        """Tells other firewalls which bridges there are."""
        try:
            self._neighbours.let_through(self.rules.bridges)
        except OSError as error:
            log.warning("another firewall on this host could not be told to let containers through: %s", error)
        if self._watch is None:
            self._watch = Nftables(groups=[nftables.GROUP])
            asyncio.get_running_loop().add_reader(self._watch, self._hear, self._watch)

    def close(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch)
            self._watch.close()
        if self._calm is not None:
            self._calm.cancel()
        self._neighbours.close()
        self.rules.close()

    def _hear(self, watch: Nftables) -> None:
        try:
            told = watch.notifications()
        except OSError:  # too much at once: some of it is lost
            self._flushed = True
            self._look_soon()
            return
        for message in told:
            if message.kind == NEWGEN or message.port in (self.rules.port, self._neighbours.port):
                continue
            table = table_name(message)
            if table == self.rules.table:
                self._flushed = True
            if table == self.rules.table or not table.startswith(_OURS):  # those of other engines are their business
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
