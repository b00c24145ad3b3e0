"""Programs of the host that have their say in a container's root before anything of the container runs.

They are the OCI runtime specification's createContainer hooks: in the container's namespaces and cgroup, with all
mounts made, while "/" is still the host's. Each reads the container's state from its standard input, and finds its
configuration, with the root's path in it, in the bundle that the state names.
"""

import os
import select
import signal

import msgspec

from wherry.runtime.ipc import StartError, reason
from wherry.runtime.spec import Hook, Spec

VERSION = "1.2.0"  # of the OCI runtime specification
_SAID = 4096  # bytes of what a hook that failed has said


def write_bundle(spec: Spec) -> None:
    """The configuration that hooks read, as much of it as they have use for."""
    process = spec.process
    configuration = {
        "ociVersion": VERSION,
        "root": {"path": spec.exec_dir},
        "hostname": spec.hostname,
        "process": {"args": process.args, "env": process.env, "cwd": process.cwd, "terminal": process.tty},
        "mounts": [{"destination": each.target, "source": each.source, "type": each.type} for each in spec.mounts],
        "linux": {"namespaces": [{"type": each.kind} for each in spec.namespaces], "cgroupsPath": spec.cgroup},
    }
    path = f"{spec.bundle}/config.json"
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(msgspec.json.encode(configuration))


def run(spec: Spec) -> None:
    """Raises StartError for the first that fails."""
    state = {
        "ociVersion": VERSION,
        "id": spec.id,
        "status": "creating",
        "pid": int(os.readlink("/proc/self")),  # as the host counts
        "bundle": spec.bundle,
    }
    umask = os.umask(0o022)
    for hook in spec.hooks:
        _run(hook, msgspec.json.encode(state))
    os.umask(umask)


def _run(hook: Hook, state: bytes) -> None:
    given, said = os.memfd_create("state"), os.memfd_create("said")
    try:
        os.write(given, state)
        os.lseek(given, 0, os.SEEK_SET)
        pid = os.posix_spawn(
            hook.path,
            hook.args or (hook.path,),
            dict(entry.partition("=")[::2] for entry in hook.env),
            file_actions=[(os.POSIX_SPAWN_DUP2, *pair) for pair in ((given, 0), (said, 1), (said, 2))],
            setsigmask=(),
            setsigdef=(signal.SIGPIPE,),  # which Python ignores
        )
        code = _wait(pid, hook)
        if code:
            text = os.pread(said, _SAID, 0).decode(errors="replace").strip()
            raise StartError(f"error running createContainer hook {hook.path}: exit status {code}, output: {text}")
    except OSError as error:
        raise StartError(f"error running createContainer hook {hook.path}: {reason(error)}") from None
    finally:
        os.close(given)
        os.close(said)


def _wait(pid: int, hook: Hook) -> int:
    """Its exit code, that of a shell for a signal."""
    ended = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        if not poll.poll(hook.timeout * 1000 or None):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise StartError(f"error running createContainer hook {hook.path}: no end within {hook.timeout} seconds")
    finally:
        os.close(ended)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code
