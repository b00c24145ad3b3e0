"""What an engine has on the machine at one moment, to be compared with another moment."""

import contextlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from tests.support.engine import CGROUP_ROOT, Engine
from tests.support.networks import interfaces

_CONTAINER_CGROUP = re.compile(r"(docker-|wherry-)?([0-9a-f]{64})(\.scope)?")


class Footprint(NamedTuple):
    """Names, not counts, so that a failing comparison says what was left."""

    processes: tuple[str, ...]  # their commands: a spare one that was used is replaced by another
    mounts: frozenset[str]
    cgroups: frozenset[str]
    interfaces: frozenset[str]
    files: frozenset[str]
    descriptors: int


def footprint(engine: Engine) -> Footprint:
    """Processes, mounts in the host's namespace, idle container cgroups, network interfaces, files of containers and of
    the exec root, and the number of descriptors that the engine's processes hold open. Also of an engine that ended."""
    pids = engine.processes()
    return Footprint(
        processes=tuple(sorted(_command(pid) for pid in pids)),
        mounts=frozenset(_mounts(engine.root)),
        cgroups=frozenset(map(str, engine.cgroups()) if engine.cgroup_parent else _idle_container_cgroups()),
        interfaces=frozenset(interfaces(engine.data_root)),
        files=frozenset(_files(engine.data_root / "containers") | _files(engine.exec_root)),
        descriptors=sum(_descriptors(pid) for pid in pids),
    )


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _mounts(root: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line]


def _idle_container_cgroups() -> set[str]:
    """Cgroups named after a container that hold no process: another engine's running containers do not count."""
    found = set()
    for directory, _, files in os.walk(CGROUP_ROOT):
        if _CONTAINER_CGROUP.fullmatch(Path(directory).name) and "cgroup.procs" in files:
            with contextlib.suppress(OSError):
                if not (Path(directory) / "cgroup.procs").read_text():
                    found.add(directory)
    return found


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def _descriptors(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0
