"""The container's first process, from its birth to the user's program, in the order in which things happen.

It shares the monitor's memory until then, and each step is a function that the monitor has it call: see
``linux.child``. What it shares with exec, and what guards both, is in ``execute``.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wherry.linux import namespaces, process, user_namespaces
from wherry.linux.cgroups import Cgroup, Hierarchies
from wherry.linux.child import Child
from wherry.linux.sockets import bring_up
from wherry.runtime import execute, hooks, identity
from wherry.runtime.execute import LABEL, LINE, Init, Program
from wherry.runtime.ipc import StartError
from wherry.runtime.rootfs import (
    FileSystems,
    Root,
    Terminal,
    adopt_terminal,
    mount_console,
    open_terminal,
    proc_of,
    take_streams,
)
from wherry.runtime.spec import NamespaceKind, Spec

_JOIN_ORDER: tuple[NamespaceKind, ...] = ("ipc", "uts", "net", "cgroup")
_USUAL: frozenset[NamespaceKind] = frozenset(("pid", "net", "ipc", "uts"))
_AHEAD = namespaces.CLONE_NEWNET | namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWUTS


class Ready(NamedTuple):
    """A process that has been made and waits: for the container of a spec, or ``ahead`` of any, when it has left those
    of the host's namespaces that nearly every container leaves (see ``fits``)."""

    child: Child
    file_systems: FileSystems
    ahead: bool = False


def make(flags: int, cgroup: Cgroup | None) -> Ready:
    """One that is born into the version 2 part of ``cgroup``, and into new namespaces (``flags``)."""
    target = cgroup.clone_target() if cgroup is not None else None
    try:
        child = Child(flags, cgroup=target)
    finally:
        if target is not None:
            os.close(target)
    child.call(_begin)
    return Ready(child, FileSystems())


def make_ahead() -> Ready:
    """One for a container that is not known yet."""
    ready = make(namespaces.CLONE_NEWPID, None)

    def prepare() -> None:
        _leave(_AHEAD)
        ready.file_systems.prepare()

    ready.child.call(prepare)
    return ready._replace(ahead=True)


def fits(spec: Spec) -> bool:
    """Whether a process that was started ahead can become this container's first."""
    return not spec.uids and {namespace.kind for namespace in spec.namespaces if namespace.pid is None} >= _USUAL


class First:
    """What the process does to become the container's first: ``separate``, ``enter`` and ``become``, in this order."""

    def __init__(self, spec: Spec, ready: Ready) -> None:
        self.terminal: Terminal | None = None
        self.warnings: list[str] = []
        self._spec = spec
        self._ready = ready
        self._joins = -1

    @property
    def joins(self) -> bool:
        """Whether it goes on in another container's pid namespace; known once it is separated."""
        return self._joins >= 0

    def separate(self) -> int:
        """Leaves the host's namespaces, and answers a descriptor of the new network namespace, or -1."""
        spec = self._spec
        if not spec.uids:
            identity.set_oom_score(spec.process.oom_score_adj)
        self._label = identity.SecurityLabel(spec.process, LABEL)
        self._joins = _open_joined(spec, self._ready.file_systems)
        _separate(spec, done=_AHEAD if self._ready.ahead else namespaces.CLONE_NEWIPC if spec.uids else 0)
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC) if _is_new(spec, "net") else -1

    def enter(self, hierarchies: Hierarchies | None, cgroup: Cgroup | None, outside: Sequence[int]) -> None:
        """Builds the root, and makes it "/". The network is there. ``outside``: see ``Root``."""
        spec = self._spec
        place = os.open("." if spec.uids else spec.exec_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        root = Root(spec, self._ready.file_systems, place) if not spec.uids else None
        if cgroup is not None:
            cgroup.join(cloned=True)
        # Only now, since the root of a cgroup namespace is where the process is when it is made.
        if _is_new(spec, "cgroup"):
            namespaces.unshare(namespaces.CLONE_NEWCGROUP)
        if root is None:  # what is the machine's is behind us
            user_namespaces.learn("self")
            user_namespaces.become_root()
            if _is_new(spec, "ipc"):  # its queues' directory belongs to who makes it
                namespaces.unshare(namespaces.CLONE_NEWIPC)
            root = Root(spec, self._ready.file_systems, place, outside)
        root.fill(hierarchies, cgroup)
        if spec.process.tty:
            self.terminal = open_terminal(root.fd, spec.process.console_size)
            if root.has_own_devices:
                mount_console(root.fd, self.terminal.slave)
        if spec.hooks:
            hooks.run(spec)
        root.protect()
        root.enter()
        # From here on "/" is the container's.
        if _is_new(spec, "uts"):
            _name_host(spec)
        execute.make_directory(spec.process)
        root.close()

    def become(self, line: socket.socket, streams: Mapping[int, int], init: Init | None) -> Program:
        """Who runs the program, which is all that is left. ``streams`` are descriptors by their places."""
        spec = self._spec
        places = {LINE: line.fileno(), **streams, **self._label.places, **(init.places if init is not None else {})}
        if self._joins >= 0:
            places[_JOINED] = self._joins
        if self.terminal is not None:
            places[_SLAVE] = self.terminal.slave
        execute.take_descriptors(places)
        if self.terminal is not None:
            (take_streams if self._joins >= 0 else adopt_terminal)(_SLAVE)
        elif not spec.process.stdin:
            execute.open_null()
        with socket.socket(fileno=LINE) as kept:
            return execute.prepare(
                spec.process,
                kept,
                self._label,
                init,
                notice=self.warnings.append,
                joins=_JOINED if self._joins >= 0 else -1,
            )

    def close(self) -> None:
        """Lets go of what is the process's alone by now."""
        self._label.close()
        if self._joins >= 0:
            os.close(self._joins)
        if self.terminal is not None:
            os.close(self.terminal.slave)


_JOINED, _SLAVE = LABEL + 1, LABEL + 2  # places of descriptors


def _begin() -> None:
    execute.begin()
    process.join_new_keyring()


def _open_joined(spec: Spec, file_systems: FileSystems) -> int:
    """The pid namespace of another container, to be entered last, and its /proc; -1 when none is to be joined."""
    other = next((each.pid for each in spec.namespaces if each.kind == "pid"), None)
    if not other:
        return -1
    for mount in spec.mounts:
        if mount.type == "proc":
            file_systems.offer(mount, proc_of(other))
    return os.open(f"/proc/{other}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def _separate(spec: Spec, done: int) -> None:
    """Leaves the host's namespaces: joins those of others, then makes its own. The pid namespace it was born in."""
    for kind in _JOIN_ORDER:
        for namespace in spec.namespaces:
            if namespace.kind == kind and namespace.pid:
                namespaces.join_of(namespace.pid, kind)
    flags = 0
    for namespace in spec.namespaces:
        if namespace.pid is None and namespace.kind not in ("pid", "cgroup", "user"):
            flags |= namespaces.FLAGS[namespace.kind]
    if not flags & namespaces.CLONE_NEWNS:
        raise StartError("a container needs a mount namespace of its own")
    _leave(flags & ~done)


def _leave(flags: int) -> None:
    namespaces.unshare(flags)
    if flags & namespaces.CLONE_NEWNET:
        bring_up("lo")


def _is_new(spec: Spec, kind: NamespaceKind) -> bool:
    return any(namespace.kind == kind and namespace.pid is None for namespace in spec.namespaces)


def _name_host(spec: Spec) -> None:
    if spec.hostname:
        socket.sethostname(spec.hostname)
    if spec.domainname:
        process.set_domain_name(spec.domainname)
