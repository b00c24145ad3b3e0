"""The container's first process, from its fork to the user's program, in the order in which things happen.

Read ``_start`` from top to bottom. What it shares with exec, and what guards both, is in ``execute``.
"""

import contextlib
import os
import socket
from typing import NamedTuple, NoReturn

import msgspec

from wherry.linux import namespaces, process, user_namespaces
from wherry.linux.cgroups import Hierarchies
from wherry.linux.process import WrittenPages, write_ahead
from wherry.linux.sockets import bring_up
from wherry.runtime import execute, hooks, identity
from wherry.runtime.execute import find_program
from wherry.runtime.identity import look_up_user
from wherry.runtime.ipc import Channel, StartError
from wherry.runtime.rootfs import FileSystems, Root, adopt_terminal, mount_console, open_terminal, proc_of, take_streams
from wherry.runtime.spec import DeviceRule, Mount, Namespace, NamespaceKind, Process, Resources, Rlimit, Spec

_JOIN_ORDER: tuple[NamespaceKind, ...] = ("ipc", "uts", "net", "cgroup")
_USUAL: frozenset[NamespaceKind] = frozenset(("pid", "net", "ipc", "uts"))
_AHEAD = namespaces.CLONE_NEWNET | namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWUTS

_decode_spec = msgspec.msgpack.Decoder(Spec).decode
REHEARSAL = msgspec.msgpack.encode(
    Spec(
        id="rehearsal",
        exec_dir="/",
        rootfs=(Mount("overlay", "overlay", options=("ro",)),),
        process=Process(args=("true",), env=("PATH=/bin",), rlimits=(Rlimit("nofile", 1, 1),)),
        namespaces=(Namespace("pid"),),
        resources=Resources(memory=1, devices=(DeviceRule(True),)),
    )
)
"""A spec of nobody's, with something of everything in it."""


class Ahead(NamedTuple):
    """How it is to wait for its container. It leaves those of the host's namespaces that nearly every container leaves
    (see ``fits``), writes to ``pages``, and ``learns`` which ones a start writes to."""

    pages: bytes
    learns: bool


def run(channel: int, hierarchies: Hierarchies | None, ahead: Ahead | None = None) -> NoReturn:
    """Becomes the first program of the container that the channel tells of. Whatever goes wrong is told there.

    ``ahead``: before it is known which container that is.
    """
    execute.run_child(lambda line: _start(line, hierarchies, ahead), channel)


def fits(spec: Spec) -> bool:
    """Whether a process that was started ahead can become this container's first."""
    return not spec.uids and {namespace.kind for namespace in spec.namespaces if namespace.pid is None} >= _USUAL


def _start(channel: Channel, hierarchies: Hierarchies | None, ahead: Ahead | None) -> None:
    process.join_new_keyring()
    file_systems = FileSystems()
    written = None
    if ahead is not None:
        _leave(_AHEAD)
        file_systems.prepare()
        _rehearse()
        write_ahead(ahead.pages)
        if ahead.learns:
            written = WrittenPages()
    content, _ = channel.wait_to_begin()
    spec = _decode_spec(content)
    wanted = spec.process
    if not spec.uids:
        identity.set_oom_score(wanted.oom_score_adj)
    label = identity.SecurityLabel(wanted)
    joins = _open_joined(spec, file_systems)
    _separate(spec, done=_AHEAD if ahead else namespaces.CLONE_NEWIPC if spec.uids else 0)
    if _is_new(spec, "net"):
        channel.separated()

    place = os.open("." if spec.uids else spec.exec_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    root = Root(spec, file_systems, place) if not spec.uids else None
    outside = channel.wait_to_go()
    cgroup = hierarchies.open(spec.cgroup) if spec.cgroup and hierarchies is not None else None
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
        root = Root(spec, file_systems, place, outside)
    root.fill(hierarchies, cgroup)
    terminal = None
    if wanted.tty:
        terminal = open_terminal(root.fd, wanted.console_size)
        channel.console(terminal.master)
        os.close(terminal.master)
        if root.has_own_devices:
            mount_console(root.fd, terminal.slave)
    if spec.hooks:
        hooks.run(spec)
    root.protect()
    root.enter()

    # From here on "/" is the container's.
    if terminal is not None:
        (take_streams if joins >= 0 else adopt_terminal)(terminal.slave)
    elif not wanted.stdin:
        execute.open_null()
    if _is_new(spec, "uts"):
        _name_host(spec)
    execute.make_directory(wanted)
    root.close()
    if spec.interfaces or spec.resolver:
        channel.wait_to_be_connected()
    if written is not None:
        channel.written(written.end())
    execute.execute_process(wanted, channel, label, with_reaper=spec.init, joins=joins)


def _open_joined(spec: Spec, file_systems: FileSystems) -> int:
    """The pid namespace of another container, to be entered last, and its /proc; -1 when none is to be joined."""
    other = next((each.pid for each in spec.namespaces if each.kind == "pid"), None)
    if not other:
        return -1
    for mount in spec.mounts:
        if mount.type == "proc":
            file_systems.offer(mount, proc_of(other))
    return os.open(f"/proc/{other}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def _rehearse() -> None:
    """Does some of what comes later, to no effect: the memory that it writes to is then this process's own already.

    Each page that is copied from the parent's while somebody waits takes 2 microseconds, and there are hundreds.
    """
    wanted = _decode_spec(REHEARSAL).process
    look_up_user(wanted.user)
    with contextlib.suppress(StartError):
        find_program(wanted.args[0], "/bin")


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
