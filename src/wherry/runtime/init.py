"""The container's first process, from its fork to the user's program, in the order in which things happen.

Read ``_start`` from top to bottom. What it shares with exec, and what guards both, is in ``starting``.
"""

import os
import socket
from typing import NoReturn

from wherry.linux import interfaces, namespaces, process
from wherry.linux.cgroups import Cgroup, Hierarchies
from wherry.runtime import console, credentials, rootfs, starting
from wherry.runtime.channel import Channel
from wherry.runtime.errors import StartError
from wherry.runtime.spec import NamespaceKind, Spec

_JOIN_ORDER: tuple[NamespaceKind, ...] = ("ipc", "uts", "net", "cgroup")


def run(
    spec: Spec,
    streams: tuple[int, int, int],
    channel: int,
    hierarchies: Hierarchies | None,
    cgroup: Cgroup | None,
) -> NoReturn:
    """Becomes the container's first program. Whatever goes wrong is told over the channel, and ends this process."""
    starting.run(lambda line: _start(spec, line, hierarchies, cgroup), streams, channel)


def _start(spec: Spec, channel: Channel, hierarchies: Hierarchies | None, cgroup: Cgroup | None) -> None:
    wanted = spec.process

    # The cgroup first: what is allocated from now on is the container's to pay for. And before the cgroup namespace,
    # whose root is where the process is when it is made.
    if cgroup is not None:
        cgroup.join(cloned=True)
    credentials.set_oom_score(wanted.oom_score_adj or 0, channel)
    label = credentials.SecurityLabel(wanted)
    process.join_new_keyring()
    _separate(spec)

    starting.stop_importing()
    root = rootfs.build(spec, hierarchies, cgroup)
    terminal = None
    if wanted.tty:
        terminal = console.open_terminal(root, wanted.console_size)
        channel.console(terminal.master)
        os.close(terminal.master)
        if rootfs.has_own_devices(spec):
            console.mount_console(root, terminal.slave)
    rootfs.protect(root, spec)
    rootfs.enter(root, spec.root_propagation)

    # From here on "/" is the container's.
    if terminal is not None:
        console.adopt(terminal.slave)
    elif not wanted.stdin:
        starting.open_null()
    if _is_new(spec, "uts"):
        _name_host(spec)
    starting.execute(wanted, channel, label, make_directory=True, with_reaper=spec.init)


def _separate(spec: Spec) -> None:
    """Leaves the host's namespaces: joins those of others, then makes its own. The pid namespace it was born in."""
    for kind in _JOIN_ORDER:
        for namespace in spec.namespaces:
            if namespace.kind == kind and namespace.pid:
                namespaces.join_of(namespace.pid, kind)
    flags = 0
    for namespace in spec.namespaces:
        if namespace.pid is None and namespace.kind != "pid":
            flags |= namespaces.FLAGS[namespace.kind]
    if not flags & namespaces.CLONE_NEWNS:
        raise StartError("a container needs a mount namespace of its own")
    namespaces.unshare(flags)
    if flags & namespaces.CLONE_NEWNET:
        interfaces.bring_up("lo")


def _is_new(spec: Spec, kind: NamespaceKind) -> bool:
    return any(namespace.kind == kind and namespace.pid is None for namespace in spec.namespaces)


def _name_host(spec: Spec) -> None:
    if spec.hostname:
        socket.sethostname(spec.hostname)
    if spec.domainname:
        process.set_domain_name(spec.domainname)
