"""The network namespace that bridges and the firewall's rules are in: this process's own; with an ordinary user's
engine, one that was made for it."""

from collections.abc import Callable
from typing import TypeVar

from wherry.linux.namespaces import NetworkNamespace
from wherry.linux.nftables import Nftables
from wherry.linux.rtnetlink import Route

_T = TypeVar("_T")

_namespace: NetworkNamespace | None = None


def move_to(path: str) -> None:
    """From now on it is the one of this file."""
    global _namespace
    _namespace = NetworkNamespace(path)


def is_elsewhere() -> bool:
    """Whether it is not the one that this process is in."""
    return _namespace is not None


def at_home(work: Callable[[], _T]) -> _T:
    """What ``work`` answers or raises, in there: sockets that it makes, and /proc/sys/net, are that namespace's."""
    return work() if _namespace is None else _namespace.run(work)


def route() -> Route:
    return at_home(Route)


def firewall(*groups: int) -> Nftables:
    return at_home(lambda: Nftables(groups=groups))
