"""Containers without an engine: a busybox root in a temporary directory, specs for it, and running them."""

import asyncio
import os
import shutil
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.engine import CACHE
from wherry.linux import capabilities, seccomp
from wherry.linux.cgroups import DEFAULT_DEVICE_RULES, Hierarchies, Resources
from wherry.linux.mounts import Mount
from wherry.runtime.launcher_client import Launcher
from wherry.runtime.monitor_client import Exit, Monitor
from wherry.runtime.spec import Log, Namespace, NamespaceKind, Process, Spec

BUSYBOX = CACHE / "busybox"
COMMANDS = (
    "sh true false cat echo ls id ps sleep mount stty tty kill dd head hostname ip env mkdir mknod mkfifo readlink wc "
    "yes stat grep touch chmod ln rm nsenter unshare awk sysctl trap test umount date tr nc sort find"
)
NAMESPACES: tuple[NamespaceKind, ...] = ("pid", "mnt", "net", "ipc", "uts", "cgroup")
MASKED = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/scsi",
    "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
KERNEL_MOUNTS = (
    Mount("proc", "proc", "/proc", ("nosuid", "noexec", "nodev")),
    Mount("tmpfs", "tmpfs", "/dev", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount("devpts", "devpts", "/dev/pts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    Mount("sysfs", "sysfs", "/sys", ("nosuid", "noexec", "nodev", "ro")),
    Mount("cgroup", "cgroup", "/sys/fs/cgroup", ("nosuid", "noexec", "nodev", "ro")),
    Mount("mqueue", "mqueue", "/dev/mqueue", ("nosuid", "noexec", "nodev")),
    Mount("tmpfs", "shm", "/dev/shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=67108864")),
)


@dataclass
class Output:
    """What a container printed and how it ended."""

    exit: Exit
    stdout: str
    stderr: str
    warnings: tuple[str, ...]

    @property
    def code(self) -> int:
        return self.exit.code


@dataclass
class Bundles:
    """A directory with one image and any number of containers of it."""

    directory: Path
    cgroup_parent: str = field(default_factory=lambda: f"/wherry-test-{os.getpid()}")
    count: int = 0

    def __post_init__(self) -> None:
        binaries = self.image / "bin"
        binaries.mkdir(parents=True)
        shutil.copy(BUSYBOX, binaries / "busybox")
        for command in COMMANDS.split():
            (binaries / command).symlink_to("busybox")
        (self.image / "etc").mkdir()
        (self.image / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n")
        (self.image / "etc/group").write_text("root:x:0:\nbob:x:1000:\naudio:x:29:bob\n")
        self.profile = seccomp.compile_profile(seccomp.default_profile(), capabilities.DEFAULT)

    @property
    def image(self) -> Path:
        return self.directory / "image"

    def spec(self, *args: str, mounts: tuple[Mount, ...] = (), **changes: Any) -> Spec:
        """A container as Docker would make it by default. Fields of Process and of Spec can be given by name."""
        self.count += 1
        name = f"c{self.count}"
        where = self.directory / name
        for directory in ("upper", "work", "exec"):
            (where / directory).mkdir(parents=True)
        layers = (f"lowerdir={self.image}", f"upperdir={where}/upper", f"workdir={where}/work")
        process: dict[str, Any] = {
            "env": ("PATH=/bin",),
            "capabilities": capabilities.DEFAULT,
            "seccomp": self.profile,
        }
        process |= {key: changes.pop(key) for key in list(changes) if key in Process.__struct_fields__}
        values: dict[str, Any] = {
            "id": name,
            "exec_dir": str(where / "exec"),
            "rootfs": (Mount("overlay", "overlay", "", layers),),
            "process": Process(args=args, **process),
            "namespaces": tuple(Namespace(kind) for kind in NAMESPACES),
            "hostname": name,
            "mounts": (*KERNEL_MOUNTS, *mounts),
            "masked_paths": MASKED,
            "readonly_paths": READ_ONLY,
            "readonly_proc": True,
            "cgroup": f"{self.cgroup_parent}/{name}",
            "resources": Resources(devices=DEFAULT_DEVICE_RULES),
            "log": Log("local", str(where / "log")),
        }
        return Spec(**(values | changes))

    def process(self, *args: str, **changes: Any) -> Process:
        """One for exec."""
        values: dict[str, Any] = {
            "env": ("PATH=/bin",),
            "capabilities": capabilities.DEFAULT,
            "seccomp": self.profile,
            "stdin_once": True,
        }
        return Process(args=args, **(values | changes))

    def upper(self, spec: Spec) -> Path:
        """Where what the container changed is found."""
        return self.directory / spec.id / "upper"

    def clean_up(self) -> None:
        """Ends whatever a failed test has left, and takes the cgroups away."""
        parent = Hierarchies.detect().open(self.cgroup_parent)
        if parent.exists():
            parent.kill()
            parent.remove()


async def start_attached(launcher: Launcher, spec: Spec, *, stdin: bool = False) -> tuple[Monitor, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        try:
            monitor = await launcher.start(spec, [(theirs, stdin, True, True)])
        except BaseException:
            ours.close()
            raise
    return monitor, ours


async def run(launcher: Launcher, spec: Spec, stdin: bytes | None = None) -> Output:
    """Runs a container to its end."""
    monitor, stream = await start_attached(launcher, spec, stdin=stdin is not None)
    with stream:
        if stdin is not None:
            await asyncio.get_running_loop().sock_sendall(stream, stdin)
            stream.shutdown(socket.SHUT_WR)
        data = await read_all(stream)
    ended = await monitor.exited
    monitor.close()
    stdout, stderr = (data, b"") if spec.process.tty else split(data)
    return Output(ended, stdout.decode(errors="replace"), stderr.decode(errors="replace"), monitor.warnings)


async def read_all(stream: socket.socket) -> bytes:
    loop, data = asyncio.get_running_loop(), bytearray()
    while chunk := await loop.sock_recv(stream, 1 << 16):
        data += chunk
    return bytes(data)


async def read_until(stream: socket.socket, text: bytes) -> bytes:
    loop, data = asyncio.get_running_loop(), bytearray()
    while text not in data:
        chunk = await loop.sock_recv(stream, 1 << 16)
        assert chunk, f"the stream ended before {text!r}: {bytes(data)!r}"
        data += chunk
    return bytes(data)


def split(data: bytes) -> tuple[bytes, bytes]:
    """stdout and stderr out of the frames."""
    streams = {1: bytearray(), 2: bytearray()}
    at = 0
    while at < len(data):
        stream, length = struct.unpack_from(">B3xI", data, at)
        streams[stream] += data[at + 8 : at + 8 + length]
        at += 8 + length
    return bytes(streams[1]), bytes(streams[2])
