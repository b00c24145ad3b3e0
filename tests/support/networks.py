"""What an engine that was killed leaves of its networks: the next one on its data root would take it over."""

import contextlib
import hashlib
import sqlite3
from pathlib import Path

from wherry.linux import nftables, rtnetlink
from wherry.linux.nftables import BRIDGE, INET, Nftables
from wherry.linux.rtnetlink import Route


def instance(data_root: Path) -> str:
    """What tells the bridges and tables of this engine from those of others."""
    return hashlib.sha256(str(data_root).encode()).hexdigest()[:6]


def remove_networks(data_root: Path) -> None:
    """Bridges, by the names that an engine with this data root gives, and its tables."""
    names = [f"wherry{instance(data_root)}", *(f"br-{network[:12]}" for network in _networks(data_root / "state.db"))]
    with Route() as route:
        for name in names:
            found = route.link(name)
            if found is not None:
                route.execute(rtnetlink.delete_link(found.index))
    with Nftables() as firewall:
        for family in (INET, BRIDGE):
            table = f"wherry-{instance(data_root)}"
            firewall.commit(nftables.table(family, table), nftables.delete_table(family, table))


def _networks(database: Path) -> list[str]:
    if not database.exists():
        return []
    with contextlib.closing(sqlite3.connect(database)) as state, contextlib.suppress(sqlite3.Error):
        return [network for (network,) in state.execute("SELECT id FROM networks")]
    return []
