"""The launcher: a small warm process that is forked for every container.

A cold start of Python with these imports takes 100 ms, a fork of a process that has them 1 ms. One thread and no event
loop, so that the fork is safe; the objects of the imports are frozen, so that neither the garbage collector nor its
counters touch the pages that all monitors share.

One monitor is always forked ahead (preforked): it has left the launcher's session, has written to the memory that it is
going to need, and waits for the next request on the same socket. That takes the fork and 5 ms of page faults out of the
way of a start. It says over a pipe when it has taken a request, and again when the container has started; the
launcher forks the next one then, or earlier when another request is already there. Which memory that is the first one
finds out, by the pages that it and its child did write to.

    python -I -S -c PROGRAM <socket> <soft limit of descriptors> <directories to import from>
"""

import contextlib
import gc
import os
import resource
import select
import signal
import socket
import sys
from typing import NoReturn

import msgspec

from wherry.linux import capabilities, namespaces, process, user_namespaces
from wherry.linux.cgroups import CgroupError, Hierarchies
from wherry.linux.process import WrittenPages, write_ahead
from wherry.runtime import init
from wherry.runtime.ipc import (
    QUIT,
    STARTED,
    TAKEN,
    Failed,
    Footprint,
    decode_footprint,
    decode_start,
    encode,
    is_open,
    receive,
    send,
)
from wherry.runtime.monitor import Monitor, StartOrder, describe
from wherry.runtime.running import Child, Running, fork
from wherry.runtime.spec import Spec

# A preforked monitor, until it gets its container.
#
# It has left the launcher's session, has written to the memory that a start writes to, and has itself forked the child
# that will become the container's first process. Both wait: it for a request, its child for it. Where the
# container turns out to be an unusual one (the host's network, say), the child is discarded and another one forked.

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
        written = WrittenPages() if footprint is None else None
        monitor = Monitor(hierarchies, lambda first: _say_started(tell, first, written, ready))
        _decode_spec(init.REHEARSAL)
        if footprint is not None:
            write_ahead(footprint.monitor)
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
    ahead = init.Ahead(footprint.first, learns=False) if footprint is not None else init.Ahead(b"", learns=True)
    return fork(lambda channel: init.run(channel, hierarchies, ahead), flags=namespaces.CLONE_NEWPID)


def _say_started(tell: int, first: Running, written: WrittenPages | None, ready: Child | None) -> None:
    """Tells of the start, with the footprint if it is asked for, and the container is a usual one that did start."""
    footprint = b""
    if written is not None and first.failure is None and (first.written or ready is None):
        footprint = encode(Footprint(written.end(), first.written))
    _say(tell, STARTED + footprint)
    os.close(tell)


def _say(tell: int, word: bytes) -> None:
    """Says it to the launcher, which may be gone."""
    with contextlib.suppress(BrokenPipeError):
        os.write(tell, word)


CGROUP_PARENT = "/wherry"

_QUIET = 10  # milliseconds that a container which has just started is left alone with the processors
_FOOTPRINT_AT_MOST = 65536  # bytes: what a pipe holds


def serve(fd: int, descriptors: int) -> None:
    """Starts what comes over the socket ``fd``, until the daemon at its other end is gone. ``descriptors`` is how many
    files a container's process may open unless it is told otherwise."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    process.close_from(fd + 1)
    requests = socket.socket(fileno=fd)
    process.restore_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # monitors that end leave no zombies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the daemon's terminal is the daemon's to handle
    process.set_dumpable(False)
    process.set_name("wherry-launcher")
    title = process.Title()
    title.set("wherry-launcher")
    hierarchies = _find_cgroups()
    capabilities.last_cap()  # is remembered: it is asked of /proc, which later would be the container's
    user_namespaces.remember()  # likewise
    gc.collect()
    filling = _fill_pools()  # is kept as long as the launcher runs
    gc.freeze()
    gc.disable()
    footprint = None
    word = b""
    while word != QUIT:
        heard = _prefork(requests, hierarchies, title, footprint)
        word = os.read(heard, 1)  # b"" when it was killed
        if word == TAKEN:
            _wait_until_due(heard, requests)
            footprint = footprint or _read_footprint(heard)
        os.close(heard)
    del filling


_POOL = 16 << 10  # bytes: Python takes memory for small objects from pools, each for one size (Objects/obmalloc.c)
_HEADER = 48  # bytes at a pool's beginning


def _fill_pools() -> list[bytes]:
    """Objects in all the gaps that are left in the pools. What a monitor makes then lies together in a few pages of its
    own, instead of making a copy of a shared page for each gap that it finds there: 120 KB less a container."""
    filling: list[bytes] = []
    for size in range(48, 513, 16):
        pools: set[int] = set()
        while True:
            filler = bytes(size - sys.getsizeof(b""))
            pool, offset = divmod(id(filler), _POOL)
            if offset <= _HEADER and pool not in pools:
                break  # a new pool has been begun, so the others of this size are full
            pools.add(pool)
            filling.append(filler)
    return filling


def _prefork(
    requests: socket.socket, hierarchies: Hierarchies | None, title: process.Title, footprint: Footprint | None
) -> int:
    """Forks a monitor ahead, and answers a pipe on which it is heard."""
    heard, tell = os.pipe()
    pid, pidfd = process.fork()
    if pid == 0:
        os.close(heard)
        run(requests, tell, hierarchies, title, footprint)
    os.close(pidfd)
    os.close(tell)
    return heard


def _wait_until_due(heard: int, requests: socket.socket) -> None:
    """Until the monitor, which has taken a request, needs the processors no more; or until there is another request."""
    poll = select.poll()
    poll.register(heard, select.POLLIN)
    poll.register(requests, select.POLLIN)
    poll.poll()
    poll.unregister(heard)
    poll.poll(_QUIET)


def _read_footprint(heard: int) -> Footprint | None:
    """What the monitor has found out, if it has come so far."""
    os.set_blocking(heard, False)
    with contextlib.suppress(BlockingIOError, msgspec.DecodeError):
        return decode_footprint(os.read(heard, _FOOTPRINT_AT_MOST).removeprefix(STARTED))
    return None


def _find_cgroups() -> Hierarchies | None:
    """None where there are none to be made: containers then have no limits, and their creation tells so."""
    try:
        hierarchies = Hierarchies.usable()
        hierarchies.prepare(CGROUP_PARENT)
    except CgroupError as error:
        print(f"wherry: containers run without cgroups: {error}", file=sys.stderr)
        return None
    return hierarchies or None
