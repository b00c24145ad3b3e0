"""What the launcher is told: one container, or one more process in it, in full.

The engine decides everything and writes it down here; the runtime carries it out and decides nothing. Every field can
be written out as an OCI runtime bundle, which is what an external OCI runtime will be given. Sent as MessagePack in a
memfd, so that its size has no limit.
"""

from typing import Literal

import msgspec

from wherry.linux.cgroups import DeviceRule, Resources, ThrottleDevice
from wherry.linux.mounts import Mount
from wherry.linux.user_namespaces import Extent

__all__ = [
    "Device",
    "DeviceRule",
    "Extent",
    "Hook",
    "Interface",
    "Journald",
    "Log",
    "Mount",
    "Namespace",
    "Process",
    "Resources",
    "Rlimit",
    "Spec",
    "Syslog",
    "ThrottleDevice",
]

NamespaceKind = Literal["pid", "mnt", "net", "ipc", "uts", "cgroup", "user"]


class Namespace(msgspec.Struct, frozen=True):
    """One namespace of the container: a new one, or, with ``pid``, that of a process (``0`` means the host's own)."""

    kind: NamespaceKind
    pid: int | None = None


class Rlimit(msgspec.Struct, frozen=True):
    """``name`` as in RLIMIT_NOFILE without the prefix and in lower case ("nofile"); -1 is infinity."""

    name: str
    soft: int
    hard: int


class Device(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device node to make below the root. ``source`` is the host's node; its type and number are read from there,
    unless they are given: ``kind`` is one of S_IFCHR, S_IFBLK and S_IFIFO."""

    source: str
    path: str
    mode: int = 0o666
    kind: int = 0
    number: int = 0
    uid: int = 0
    gid: int = 0


class Hook(msgspec.Struct, frozen=True, omit_defaults=True):
    """A program of the host's, to be run before the root is the container's "/". ``timeout`` in seconds, 0 for none."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int = 0


class Process(msgspec.Struct, frozen=True, omit_defaults=True):
    """One process: the container's first, or one that exec starts.

    ``user`` is what the user wrote ("", "1000", "www-data:adm"); it is looked up in the container's own /etc/passwd and
    /etc/group, by the process that is already inside. ``groups`` are further groups, names or numbers, looked up
    likewise. ``seccomp`` is a compiled BPF program, or empty for none. ``env`` is final, but for HOME, which is set
    from the container's /etc/passwd when it is missing.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    groups: tuple[str, ...] = ()
    tty: bool = False
    console_size: tuple[int, int] | None = None  # rows, columns
    stdin: bool = False  # keep a standard input open; otherwise it is /dev/null
    stdin_once: bool = False  # close it when the first client that was attached to it goes
    capabilities: tuple[str, ...] = ()  # permitted, effective and bounding, as "CAP_CHOWN"
    ambient: bool = False  # raise them for a user other than root, too
    no_new_privileges: bool = False
    seccomp: bytes = b""
    apparmor: str = ""
    selinux: str = ""
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None
    personality: Literal["", "linux32"] = ""


class Syslog(msgspec.Struct, frozen=True, omit_defaults=True, tag="syslog"):
    """A syslog server: ``address`` is a socket's path, or a host. ``facility`` as in a message: shifted left by 3.

    For "tcp+tls", ``ca_cert``, ``cert`` and ``key`` are paths of PEM files.
    """

    protocol: Literal["unix", "unixgram", "udp", "tcp", "tcp+tls"]
    address: str
    port: int = 514
    facility: int = 3 << 3
    format: Literal["", "rfc3164", "rfc5424", "rfc5424micro"] = ""
    tag: str = ""
    ca_cert: str = ""
    cert: str = ""
    key: str = ""
    skip_verify: bool = False


class Journald(msgspec.Struct, frozen=True, omit_defaults=True, tag="journald"):
    """systemd's journal: its socket, and the fields that all entries of the container have."""

    address: str
    fields: dict[str, str]


class Log(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the monitor writes what the container prints. ``max_size`` in bytes, 0 for no rotation.

    With ``json_path``, a local log is written there besides, in json-file's format, when there is time or a reader.

    With ``forward`` the lines are sent away besides. ``buffer`` bytes of them may wait to be sent; then, if it is
    ``patient``, the container waits a while before more of them are dropped.
    """

    driver: Literal["none", "local", "json-file"] = "local"
    path: str = ""
    max_size: int = 0
    max_files: int = 1
    compress: bool = False
    attrs: dict[str, str] = {}  # json-file's "attrs"
    forward: Syslog | Journald | None = None
    buffer: int = 1 << 20
    patient: bool = True
    json_path: str = ""


class Interface(msgspec.Struct, frozen=True, omit_defaults=True):
    """A network interface of the container, ``name`` in there.

    A "veth" is a pair whose other end ``host_name`` is a port of the bridge ``parent``; a "macvlan" or "ipvlan" is a
    child of the host's interface ``parent``, in the ``mode`` of that name. ``addresses`` have their network's prefix
    ("172.17.0.2/16"); ``routes`` are destinations with their gateways ("" is none), ``gateways`` those of the default
    routes, which take the place of what was there. ``sysctls`` have slashes in their names. With ``hairpin`` the
    container can reach itself by way of the bridge, which it needs for its own published ports.
    """

    name: str
    parent: str
    kind: Literal["veth", "macvlan", "ipvlan"] = "veth"
    host_name: str = ""
    mode: str = ""
    mac: str = ""
    mtu: int = 0  # 0 is the kernel's choice
    addresses: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    gateways: tuple[str, ...] = ()
    hairpin: bool = False
    sysctls: dict[str, str] = {}


class Spec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole container.

    ``rootfs`` is mounted in order to make the root, ``mounts`` inside it afterwards, ordered as given. ``cgroup`` is
    the path below every hierarchy's own mount, such as "/wherry/<id>". A namespace kind that is not listed stays the
    host's. ``interfaces`` are made in a new network namespace beside the loopback, from the one of the file
    ``bridge_namespace`` ("" is the monitor's own); with ``resolver``, the sockets of a name service at 127.0.0.11 in
    there are opened and given to the daemon. ``hooks`` find the container's configuration
    in the directory ``bundle``. With a new user namespace come its ``uids`` and ``gids``; the root file system belongs
    to the ids inside.
    """

    id: str
    exec_dir: str  # <exec root>/<id>: monitor.sock and exit are here; made by the engine, 0700
    rootfs: tuple[Mount, ...]
    process: Process
    namespaces: tuple[Namespace, ...] = ()
    uids: tuple[Extent, ...] = ()
    gids: tuple[Extent, ...] = ()
    hostname: str = ""
    domainname: str = ""
    readonly_root: bool = False
    root_propagation: str = "rprivate"
    mounts: tuple[Mount, ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    readonly_proc: bool = False  # what lies at the top of /proc and is not of a process, and so is the host's, too
    devices: tuple[Device, ...] = ()
    hooks: tuple[Hook, ...] = ()
    bundle: str = ""
    sysctls: dict[str, str] = {}
    interfaces: tuple[Interface, ...] = ()
    bridge_namespace: str = ""
    resolver: bool = False
    cgroup: str = ""
    resources: Resources = Resources()
    init: bool = False  # a small reaper of ours is PID 1, and forwards signals
    log: Log = Log()
