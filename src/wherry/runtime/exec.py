"""One more process in a container that runs, forked from its monitor, and moved into its pid namespace at the end."""

import os
from typing import NoReturn

import msgspec

from wherry.linux import namespaces, process, user_namespaces
from wherry.linux.cgroups import Cgroup
from wherry.runtime import execute, identity
from wherry.runtime.ipc import Channel
from wherry.runtime.rootfs import open_terminal, take_streams
from wherry.runtime.spec import Process

_JOINED = ("user", "mnt", "net", "ipc", "uts", "cgroup")

_decode_process = msgspec.msgpack.Decoder(Process).decode


def run(channel: int, cgroup: Cgroup | None) -> NoReturn:
    """Becomes the program that the channel tells of, in the namespaces of the container's first process."""
    execute.run_child(lambda line: _start(line, cgroup), channel)


def _start(channel: Channel, cgroup: Cgroup | None) -> None:
    content, first = channel.wait_to_begin()
    wanted = _decode_process(content)
    if cgroup is not None:
        cgroup.join(cloned=True)
    identity.set_oom_score(wanted.oom_score_adj)
    label = identity.SecurityLabel(wanted)
    process.join_new_keyring()

    # All at once, so that there is no moment at which it is half in and half out. It leaves us in the new "/".
    identity.raise_limits(wanted)
    joined = namespaces.other_than_own(first, _JOINED)
    if joined & namespaces.CLONE_NEWUSER:
        user_namespaces.learn(namespaces.pid_of(first))
    namespaces.join(first, joined)
    if joined & namespaces.CLONE_NEWUSER:
        user_namespaces.become_root()
    if wanted.tty:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        terminal = open_terminal(root, wanted.console_size)
        os.close(root)
        channel.console(terminal.master)
        os.close(terminal.master)
        take_streams(terminal.slave)  # whose session it becomes is for who executes the program
    elif not wanted.stdin:
        execute.open_null()
    execute.execute_process(wanted, channel, label, joins=first)
