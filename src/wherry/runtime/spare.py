"""The spare: a monitor that was forked ahead, until it gets its container.

It has left the launcher's session, has written to the memory that a start writes to, and has itself forked the child
that will become the container's first process. Both wait: the spare for a request, its child for the spare. Where the
container turns out to be an unusual one (the host's network, say), the child is discarded and another one forked.
"""

import contextlib
import os
import signal
import socket
from typing import NoReturn

import msgspec

from wherry.linux import memory, namespaces, process
from wherry.linux.cgroups import Hierarchies
from wherry.runtime import init
from wherry.runtime.monitor import Monitor, StartOrder, describe
from wherry.runtime.protocol import (
    QUIT,
    STARTED,
    TAKEN,
    Failed,
    Footprint,
    decode_start,
    encode,
    is_open,
    receive,
    send,
)
from wherry.runtime.running import Child, Running, fork
from wherry.runtime.spec import Spec

_OOM_SCORE = -999

_decode_spec = msgspec.msgpack.Decoder(Spec).decode


def run(
    requests: socket.socket,
    tell: int,
    hierarchies: Hierarchies | None,
    title: process.Title,
    footprint: Footprint | None,
) -> NoReturn:
    """Becomes the monitor of the next container, in a process that was forked from the launcher.

    Without a ``footprint`` it finds out what that is, and tells the launcher.
    """
    daemon: socket.socket | None = None
    try:
        _detach()
        process.set_name("wherry-monitor")
        title.set("wherry-monitor")
        ready = _fork_ahead(hierarchies, footprint)
        written = memory.WrittenPages() if footprint is None else None
        monitor = Monitor(hierarchies, lambda first: _say_started(tell, first, written, ready))
        _decode_spec(init.REHEARSAL)
        if footprint is not None:
            memory.write_ahead(footprint.monitor)
        packet, descriptors = receive(requests)
        requests.close()
        _say(tell, TAKEN if packet else QUIT)
        if not packet:
            os._exit(0)
        content, connection, *clients = descriptors
        daemon = socket.socket(fileno=connection)
        if not is_open(daemon):
            os._exit(0)  # it was killed while the request waited, and another may be starting this container by now
        streams = decode_start(packet).streams
        spec = _decode_spec(os.pread(content, os.fstat(content).st_size, 0))
        attached = [(socket.socket(fileno=fd), wanted) for fd, wanted in zip(clients, streams, strict=True)]
        monitor.start(StartOrder(spec, content, daemon, attached), ready)
        os.close(content)
        title.set(f"wherry-monitor {spec.id}")
        monitor.serve()
    except BaseException as error:  # nothing may go unsaid: there is nobody above who could be told, and no terminal
        if daemon is not None:
            with contextlib.suppress(OSError):
                send(daemon, Failed(describe(error)))
        os._exit(1)
    os._exit(0)


def _detach() -> None:
    """Away from the launcher: its session, its directory, its terminal; and out of the OOM killer's sight."""
    process.restore_signal(signal.SIGCHLD)  # the launcher ignores it, and then nobody's end can be waited for
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        process.ignore_signal(number)
    os.setsid()
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    process.set_dumpable(False)
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    with contextlib.suppress(PermissionError):  # without CAP_SYS_RESOURCE it stays what it is
        os.write(fd, str(_OOM_SCORE).encode())
    os.close(fd)


def _fork_ahead(hierarchies: Hierarchies | None, footprint: Footprint | None) -> Child | None:
    """The container's first process to be. Not with version 2 cgroups: it has to be born in the container's own."""
    if hierarchies is not None and hierarchies.unified is not None:
        return None
    namespaces.unshare(namespaces.CLONE_NEWPID)
    ahead = init.Ahead(footprint.first, learns=False) if footprint is not None else init.Ahead(b"", learns=True)
    return fork(lambda channel: init.run(channel, hierarchies, ahead))


def _say_started(tell: int, first: Running, written: memory.WrittenPages | None, ready: Child | None) -> None:
    """With the footprint, if it is asked for, and the container is a usual one that did start."""
    footprint = b""
    if written is not None and first.failure is None and (first.written or ready is None):
        footprint = encode(Footprint(written.end(), first.written))
    _say(tell, STARTED + footprint)
    os.close(tell)


def _say(tell: int, word: bytes) -> None:
    """To the launcher, which may be gone."""
    with contextlib.suppress(BrokenPipeError):
        os.write(tell, word)
