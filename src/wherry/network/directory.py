"""Who is called what on which network. What the name service looks up, and the engine keeps current."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Entry(NamedTuple):
    """One endpoint. The first of its names is what a reverse look-up gives."""

    names: tuple[str, ...]
    addresses: tuple[str, ...]


class Directory:
    """``changes`` counts, so that who has remembered an answer sees that it may not hold any more."""

    def __init__(self) -> None:
        self.changes = 0
        self._entries: dict[tuple[str, str], Entry] = {}
        self._by_name: dict[tuple[str, str], dict[str, None]] = {}
        self._by_address: dict[tuple[str, str], str] = {}

    def add(self, network: str, endpoint: str, names: Iterable[str], addresses: Iterable[str]) -> None:
        """In place of what was there of this endpoint."""
        self.remove(network, endpoint)
        entry = Entry(tuple(dict.fromkeys(name.lower() for name in names)), tuple(filter(None, addresses)))
        self._entries[network, endpoint] = entry
        for name in entry.names:
            self._by_name.setdefault((network, name), {})[endpoint] = None
        for address in entry.addresses:
            self._by_address[network, address] = endpoint
        self.changes += 1

    def remove(self, network: str, endpoint: str) -> None:
        entry = self._entries.pop((network, endpoint), None)
        if entry is None:
            return
        for name in entry.names:
            found = self._by_name[network, name]
            del found[endpoint]
            if not found:
                del self._by_name[network, name]
        for address in entry.addresses:
            self._by_address.pop((network, address), None)
        self.changes += 1

    def look_up(self, networks: Sequence[str], name: str) -> list[str] | None:
        """All addresses of the first network that knows the name, which may end in the network's own name."""
        for network in networks:
            for known in (name, name.removesuffix(f".{network.lower()}")):
                endpoints = self._by_name.get((network, known))
                if endpoints:
                    return [address for each in endpoints for address in self._entries[network, each].addresses]
        return None

    def reverse(self, networks: Sequence[str], address: str) -> str | None:
        """ "web.mynet" for an address on one of the networks."""
        for network in networks:
            endpoint = self._by_address.get((network, address))
            if endpoint is not None:
                return f"{self._entries[network, endpoint].names[0]}.{network}"
        return None
