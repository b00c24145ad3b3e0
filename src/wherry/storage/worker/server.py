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

import msgspec

from wherry.linux import process
from wherry.storage.worker import actions, build, jobs, layer, packages, rootfs
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
        line = memoryview(_encode(event) + b"\n")
        while line:
            line = line[os.write(control, line) :]

    goes_on = True
    while goes_on:
        try:
            job = _read_job(control)
            goes_on = isinstance(job, jobs.FOLLOWED)
            report({"done": _JOBS[type(job)](report, job)})
        except BrokenPipeError:
            sys.exit(1)  # nobody listens any more
        except Exception as error:  # whatever it is, the engine gets to know it
            report(layer.describe(error))
            sys.exit(1)


_decode: Callable[[bytes], jobs.AnyJob] = msgspec.json.Decoder(jobs.AnyJob).decode


def _encode(event: dict[str, Any]) -> bytes:
    """JSON by the standard library: names of files may have bytes that are no UTF-8, which msgspec refuses."""
    return json.dumps(event, default=msgspec.to_builtins).encode()


def _read_job(control: int) -> jobs.AnyJob:
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(control, 1 << 16)
        if not data:
            raise BrokenPipeError
        line += data
    return _decode(line)


def _receive_layer(report: Report, job: jobs.ReceiveLayer) -> dict[str, Any]:
    return layer.receive_layer(_read_input, job.staging, report)


def _receive_archive(report: Report, job: jobs.ReceiveArchive) -> None:
    layer.receive_archive(_read_input, job.staging, frozenset(job.known), report)


def _commit(report: Report, job: jobs.Commit) -> dict[str, Any]:
    return layer.commit_upper(job.upper, job.staging)


def _unpack(report: Report, job: jobs.Unpack) -> dict[str, Any]:
    return layer.unpack_blob(job.blob, job.staging, job.compression, 0 if job.growing else None)


def _pack(report: Report, job: jobs.Pack) -> jobs.Packed:
    return layer.pack_blob(job)


def _read_input(size: int) -> bytes:
    return os.read(0, size)


_JOBS: dict[type[jobs.Job], Callable[..., Any]] = {
    jobs.ReceiveLayer: _receive_layer,
    jobs.ReceiveArchive: _receive_archive,
    jobs.Commit: _commit,
    jobs.Unpack: _unpack,
    jobs.Pack: _pack,
    jobs.Stat: rootfs.stat_path,
    jobs.Get: rootfs.get_archive,
    jobs.Put: rootfs.put_archive,
    jobs.Export: rootfs.export,
    jobs.CopyOut: rootfs.copy_out,
    jobs.ReceiveContext: build.receive_context,
    jobs.Digest: build.digest,
    jobs.CopyFiles: build.copy,
    jobs.MakeDirectory: build.make_directory,
    jobs.Seal: build.seal,
    jobs.Clamp: build.clamp,
    jobs.Flatten: build.flatten,
    jobs.ScanPackages: packages.scan,
    jobs.IgnoreOverlay: build.ignore_overlay,
    jobs.ChangeFiles: actions.change,
    jobs.ReadFile: actions.read,
    jobs.ListDirectory: actions.list_directory,
    jobs.LookAt: actions.look_at,
}
