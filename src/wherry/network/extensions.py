"""More bridges behind a network's first one, since the kernel gives a bridge 1,023 ports and no more.

Each hangs on the first by a pair of interfaces, so that all of them are one link. The first alone has this host's
addresses, and to the firewall's rules what comes from behind another comes from the first.
"""

from collections import Counter
from collections.abc import Iterator

from wherry.network import bridge
from wherry.network.bridge import BridgeError, Device

PORTS = 1000
"""Of a bridge, for containers. The others are for the pairs, and for what an administrator plugs in."""

_BRIDGES = 1 + 20
_BROADCASTS = 4  # that may be under way at once


def uplink(extension: str) -> str:
    """The port of the network's first bridge that an extension hangs on."""
    return f"up{extension[2:]}"


class BridgePorts:
    """How many ports of which bridge are containers'."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._made: set[str] = set()  # by this engine

    def take(self, first: Device) -> str:
        """The bridge for one more container: ``first``, or an extension, which is made then. Raises BridgeError."""
        for number, name in enumerate((first.name, *_extensions(first.network_id))):
            if self._taken[name] < PORTS:
                if number and not (name in self._made and bridge.exists(name)):
                    bridge.expect_broadcasts(_BROADCASTS * (number + 1) * PORTS)
                    bridge.make(first._replace(name=name, addresses=()))
                    bridge.join(first.name, name, (uplink(name), f"dn{name[2:]}"))
                    self._made.add(name)
                self._taken[name] += 1
                return name
        raise BridgeError(f"the network of {first.name} has {_BRIDGES * PORTS} containers, and no room for more")

    def is_extended(self, network_id: str) -> bool:
        return next(_extensions(network_id)) in self._taken

    def adopt(self, name: str) -> None:
        """Notes the port of a container that runs."""
        self._taken[name] += 1

    def release(self, name: str) -> None:
        self._taken[name] -= 1

    def remove(self, network_id: str) -> list[str]:
        """Removes the extensions of a network that no container is on, and says which."""
        removed = []
        for name in _extensions(network_id):
            if not bridge.exists(name):
                break
            bridge.remove_pair(uplink(name))
            bridge.remove(name, network_id)
            removed.append(name)
        return removed


def _extensions(network_id: str) -> Iterator[str]:
    for number in range(1, _BRIDGES):
        yield f"br{number}-{network_id[:10]}"
