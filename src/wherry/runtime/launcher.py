"""The launcher: a small warm process that is forked for every container.

A cold start of Python with these imports takes 100 ms, a fork of a process that has them 1 ms. One thread and no event
loop, so that the fork is safe; the objects of the imports are frozen, so that neither the garbage collector nor its
counters touch the pages that all monitors share.

    python -I -S -c PROGRAM <socket> <directories to import from>
"""

import gc
import os
import signal
import socket
import sys

from wherry.linux import process
from wherry.linux.cgroups import CgroupError, Hierarchies
from wherry.runtime import monitor
from wherry.runtime.protocol import decode_start, receive

CGROUP_PARENT = "/wherry"


def serve(fd: int) -> None:
    """Starts what comes over the socket ``fd``, until the daemon at its other end is gone."""
    requests = socket.socket(fileno=fd)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # monitors that end leave no zombies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the daemon's terminal is the daemon's to handle
    process.set_dumpable(False)
    process.set_name("wherry-launcher")
    hierarchies = _find_cgroups()
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        packet, descriptors = receive(requests)
        if not packet:
            return
        if os.fork() == 0:
            requests.close()
            monitor.run(decode_start(packet), descriptors, hierarchies)
        for descriptor in descriptors:
            os.close(descriptor)


def _find_cgroups() -> Hierarchies | None:
    """None on a machine without: containers then have no limits, and whoever sets one is told."""
    try:
        hierarchies = Hierarchies.detect()
        hierarchies.prepare(CGROUP_PARENT)
    except CgroupError as error:
        print(f"wherry: containers run without cgroups: {error}", file=sys.stderr)
        return None
    return hierarchies
