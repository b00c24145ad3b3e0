"""The launcher: a small warm process that is forked for every container.

A cold start of Python with these imports takes 100 ms, a fork of a process that has them 1 ms. One thread and no event
loop, so that the fork is safe; the objects of the imports are frozen, so that neither the garbage collector nor its
counters touch the pages that all monitors share.

One monitor is always forked ahead, the spare: it has left the launcher's session, has written to the memory that it is
going to need, and waits for the next request on the same socket. That takes the fork and 5 ms of page faults out of the
way of a start. The spare says over a pipe when it has taken a request, and again when the container has started; the
launcher forks the next one then, or earlier when another request is already there. Which memory that is the first spare
finds out, by the pages that it and its child did write to.

    python -I -S -c PROGRAM <socket> <directories to import from>
"""

import contextlib
import gc
import os
import select
import signal
import socket
import sys

import msgspec

from wherry.linux import capabilities, process
from wherry.linux.cgroups import CgroupError, Hierarchies
from wherry.runtime import spare
from wherry.runtime.protocol import QUIT, STARTED, TAKEN, Footprint, decode_footprint

CGROUP_PARENT = "/wherry"

_QUIET = 10  # milliseconds that a container which has just started is left alone with the processors
_FOOTPRINT_AT_MOST = 65536  # bytes: what a pipe holds


def serve(fd: int) -> None:
    """Starts what comes over the socket ``fd``, until the daemon at its other end is gone."""
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
    gc.collect()
    filling = _fill_pools()  # is kept as long as the launcher runs
    gc.freeze()
    gc.disable()
    footprint = None
    word = b""
    while word != QUIT:
        heard = _fork_spare(requests, hierarchies, title, footprint)
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


def _fork_spare(
    requests: socket.socket, hierarchies: Hierarchies | None, title: process.Title, footprint: Footprint | None
) -> int:
    """Forks a spare monitor, and answers a pipe on which it is heard."""
    heard, tell = os.pipe()
    pid, pidfd = process.fork()
    if pid == 0:
        os.close(heard)
        spare.run(requests, tell, hierarchies, title, footprint)
    os.close(pidfd)
    os.close(tell)
    return heard


def _wait_until_due(heard: int, requests: socket.socket) -> None:
    """Until the spare, which has taken a request, needs the processors no more; or until there is another request."""
    poll = select.poll()
    poll.register(heard, select.POLLIN)
    poll.register(requests, select.POLLIN)
    poll.poll()
    poll.unregister(heard)
    poll.poll(_QUIET)


def _read_footprint(heard: int) -> Footprint | None:
    """What the spare has found out, if it has come so far."""
    os.set_blocking(heard, False)
    with contextlib.suppress(BlockingIOError, msgspec.DecodeError):
        return decode_footprint(os.read(heard, _FOOTPRINT_AT_MOST).removeprefix(STARTED))
    return None


def _find_cgroups() -> Hierarchies | None:
    """None on a machine without: containers then have no limits, and are told so."""
    try:
        hierarchies = Hierarchies.detect()
        hierarchies.prepare(CGROUP_PARENT)
    except CgroupError as error:
        print(f"wherry: containers run without cgroups: {error}", file=sys.stderr)
        return None
    return hierarchies
