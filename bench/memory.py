"""Memory of an engine's processes: proportional set size, which shares a page among the processes that map it."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path


def in_network_namespace(namespace: str) -> list[int]:
    """Pids of the processes in a network namespace, named as /proc names it: net:[4026531840]."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if os.readlink(process / "ns" / "net") == namespace:
                found.append(int(process.name))
    return found


_OF_CONTAINERS = ("wherry-launcher", "wherry-monitor", "containerd-shim", "docker-proxy", "conmon", "rootlessport")


def of_containers(pids: Iterable[int]) -> list[int]:
    """Those of an engine's processes that are there for the containers' sake; not the engine, nor the containers."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip().startswith(_OF_CONTAINERS):
                found.append(pid)
    return found


def proportional(pids: Iterable[int]) -> int:
    """Bytes of PSS of these processes together; one that has ended counts as nothing."""
    return sum(_proportional(pid) for pid in pids)


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
