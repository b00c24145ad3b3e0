"""The worker: one process for one job on untrusted files, forked from the warm one that ``ForkServer`` starts.

It speaks over one socket: the engine sends the job as a line of JSON, the worker answers with lines, the last of which
has "done" or "error". Bulk data comes on standard input and leaves on standard output. When the engine dies, so does
the worker. Everything it needs is loaded before it looks at what a container or an archive brings (CVE-2019-14271).
"""

import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from wherry.linux import process
from wherry.storage.tar import compression
from wherry.storage.worker import build, layer, rootfs
from wherry.storage.worker.layer import Report


def serve(fork_server: int) -> None:
    """Forks a worker for each message on the socket, which brings its three descriptors, until it ends."""
    process.die_with_parent()
    os.set_inheritable(fork_server, False)
    os.chdir("/")
    os.umask(0o022)  # the engine's may be tighter, and what is made here are the directories of containers
    process.raise_descriptor_limit()  # a deep tree needs a descriptor a level
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers: the engine has their pidfds
    gc.collect()
    gc.freeze()
    requests = socket.socket(fileno=fork_server)
    while True:
        message, given, _, _ = socket.recv_fds(requests, 1, 3)
        if not message:
            return
        try:
            if os.fork() == 0:
                requests.close()
                _become_worker(*given)
        except OSError as error:
            print(f"a storage worker could not be forked: {error}", file=sys.stderr, flush=True)
        for fd in given:
            os.close(fd)


def _become_worker(control: int, stdin: int, stdout: int) -> None:
    """What is left of the fork's life. Never returns."""
    status = 1
    try:
        process.die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for fd, standard in ((stdin, 0), (stdout, 1)):
            os.dup2(fd, standard)
            os.close(fd)
        myself = os.pidfd_open(os.getpid())
        with socket.socket(fileno=os.dup(control)) as channel:
            socket.send_fds(channel, [b"\n"], [myself])
        os.close(myself)
        main(control)
        status = 0
    finally:
        os._exit(status)


def main(control: int) -> None:
    """Does the job that comes over the descriptor ``control``, and more of those that can be followed by others."""

    def report(event: dict[str, Any]) -> None:
        line = memoryview(json.dumps(event).encode() + b"\n")
        while line:
            line = line[os.write(control, line) :]

    goes_on = True
    while goes_on:
        try:
            job = _read_job(control)
            kind = job.pop("kind")
            goes_on = kind in build.FOLLOWED
            report({"done": _JOBS[kind](report, **job)})
        except BrokenPipeError:
            sys.exit(1)  # nobody listens any more
        except Exception as error:  # whatever it is, the engine gets to know it
            report(layer.describe(error))
            sys.exit(1)


def _read_job(control: int) -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(control, 1 << 16)
        if not data:
            raise BrokenPipeError
        line += data
    job: dict[str, Any] = json.loads(line)
    return job


def _receive_layer(report: Report, *, staging: str) -> dict[str, Any]:
    return layer.receive_layer(_read_input, staging, report)


def _receive_archive(report: Report, *, staging: str, known: list[str]) -> None:
    layer.receive_archive(_read_input, staging, frozenset(known), report)


def _commit(report: Report, *, staging: str, upper: str) -> dict[str, Any]:
    return layer.commit_upper(upper, staging)


def _unpack(report: Report, *, staging: str, blob: str, compression: compression.Compression, growing: bool) -> Any:
    return layer.unpack_blob(blob, staging, compression, 0 if growing else None)


def _read_input(size: int) -> bytes:
    return os.read(0, size)


_JOBS: dict[str, Callable[..., Any]] = {
    "receive layer": _receive_layer,
    "receive archive": _receive_archive,
    "commit": _commit,
    "unpack": _unpack,
    **rootfs.JOBS,
    **build.JOBS,
}
