"""What a container may be made with, as keywords: the words of `docker run`'s flags, and docker-py's for the same.

One table says what each keyword becomes in the Engine API; a keyword that is not in it is a TypeError, as it is for any
function of Python's: a limit that is silently left out is none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, cast

from wherry.common.ports import mappings, parse_published
from wherry.common.sizes import parse_size

if TYPE_CHECKING:
    Size = int | str
    Pairs = Mapping[str, object] | Sequence[str]
    Published = int | str | tuple[str, int] | Sequence[int | str | tuple[str, int]] | None
    Volumes = Sequence[str | "Mount"] | Mapping[str, str | Mapping[str, str]]


class Mount(NamedTuple):
    """A volume, a folder of the host, a tmpfs or an image at `target`, as of `run --mount`.

    `type`: volume, bind, tmpfs or image. `source` is a volume's name, a path or an image, empty for a new volume.
    `tmpfs_size` is in bytes or text ("64m"), `tmpfs_mode` as of chmod; `propagation` is for binds, `no_copy`, `driver`
    and `driver_opts` for volumes.

    >>> import wherry
    >>> with wherry.connect() as engine:
    ...     scratch = wherry.Mount("/scratch", type="tmpfs", tmpfs_size="1m")
    ...     engine.run("busybox", "df -k /scratch | awk 'END { print $2 }'", mounts=[scratch]).output
    '1024\\n'
    """

    target: str
    source: str = ""
    type: str = "volume"
    read_only: bool = False
    propagation: str = ""
    no_copy: bool = False
    driver: str = ""
    driver_opts: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    subpath: str = ""
    tmpfs_size: int | str = 0
    tmpfs_mode: int = 0

    def as_json(self) -> dict[str, Any]:
        """In the words of the API."""
        source = os.path.abspath(self.source) if self.type == "bind" else self.source
        found: dict[str, Any] = {"Type": self.type, "Target": self.target, "Source": source, "ReadOnly": self.read_only}
        if self.propagation:
            found["BindOptions"] = {"Propagation": self.propagation}
        volume = {
            "NoCopy": self.no_copy,
            "Labels": dict(self.labels or {}),
            "Subpath": self.subpath,
            "DriverConfig": {"Name": self.driver, "Options": dict(self.driver_opts or {})} if self.driver else None,
        }
        kept = {key: value for key, value in volume.items() if value}
        if kept:
            found["ImageOptions" if self.type == "image" else "VolumeOptions"] = kept
        if self.tmpfs_size or self.tmpfs_mode:
            found["TmpfsOptions"] = {"SizeBytes": _size(self.tmpfs_size), "Mode": self.tmpfs_mode}
        return found


class Options(TypedDict, total=False):
    """What a container may be made with; all of it may be left out. What stands behind a | is docker-py's word for it.

    Sizes are bytes, or text as for `docker run`: "64m". `env`, `labels`, `sysctls`, `log_opts`: names and values, or
    "name=value" texts. `ports`: what a port of the container ("80/tcp", 80) is published as: a port, 0 or None for any
    free one, an address and a port, or several of these; or texts as of `run -p`. `volumes`: texts as of `run -v`,
    `Mount`s, or {source: path} and {source: {"bind": path, "mode": "ro"}}. `config` and `host_config`: further fields
    in the words of the Engine API.
    """

    name: str
    platform: str
    env: Pairs  # | environment
    environment: Pairs
    labels: Pairs
    user: str | int
    workdir: str  # | working_dir
    working_dir: str
    hostname: str
    domainname: str
    entrypoint: Sequence[str] | str
    tty: bool
    stdin: bool  # | stdin_open
    stdin_open: bool
    stop_signal: str
    stop_timeout: int
    healthcheck: Mapping[str, Any]
    network: str  # | network_mode
    network_mode: str
    ports: Mapping[str | int, Published] | Sequence[str]
    publish_all: bool  # | publish_all_ports
    publish_all_ports: bool
    volumes: Volumes
    mounts: Sequence[Mount | Mapping[str, Any]]
    tmpfs: Mapping[str, str] | Sequence[str]
    volumes_from: Sequence[str]
    volume_driver: str
    memory: Size  # | mem_limit
    mem_limit: Size
    memory_swap: Size  # | memswap_limit
    memswap_limit: Size
    memory_reservation: Size  # | mem_reservation
    mem_reservation: Size
    shm_size: Size
    cpus: float
    nano_cpus: int
    cpu_shares: int
    cpu_period: int
    cpu_quota: int
    cpuset_cpus: str
    cpuset_mems: str
    pids_limit: int
    blkio_weight: int
    oom_kill_disable: bool
    oom_score_adj: int
    ulimits: Mapping[str, int | tuple[int, int]] | Sequence[Mapping[str, Any]]
    sysctls: Pairs
    read_only: bool
    privileged: bool
    init: bool
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    security_opt: Sequence[str]
    group_add: Sequence[str | int]
    devices: Sequence[str]
    device_cgroup_rules: Sequence[str]
    gpus: int | str
    device_requests: Sequence[Mapping[str, Any]]
    dns: Sequence[str]
    dns_search: Sequence[str]
    dns_opt: Sequence[str]
    extra_hosts: Mapping[str, str] | Sequence[str]
    links: Mapping[str, str] | Sequence[str]
    restart: str  # | restart_policy
    restart_policy: str | Mapping[str, Any]
    auto_remove: bool
    log_driver: str
    log_opts: Pairs
    ipc_mode: str
    pid_mode: str
    uts_mode: str
    userns_mode: str
    cgroupns: str
    cgroup_parent: str
    runtime: str
    storage_opt: Pairs
    config: Mapping[str, Any]
    host_config: Mapping[str, Any]


class Limits(TypedDict, total=False):
    """What may be changed while a container runs, in the words of `Options`."""

    memory: Size
    mem_limit: Size
    memory_swap: Size
    memswap_limit: Size
    memory_reservation: Size
    mem_reservation: Size
    cpus: float
    nano_cpus: int
    cpu_shares: int
    cpu_period: int
    cpu_quota: int
    cpuset_cpus: str
    cpuset_mems: str
    pids_limit: int
    blkio_weight: int
    restart: str
    restart_policy: str | Mapping[str, Any]


def changes(limits: Limits) -> dict[str, Any]:
    """The body of an update. Raises TypeError for what is none of the limits, and ValueError."""
    for word in limits:
        if word not in Limits.__annotations__:
            raise TypeError(f"{word!r} cannot be changed any more" if word in TABLE else _unknown(word))
    body, _, _ = container_body("", (), cast("Options", limits))
    found: dict[str, Any] = body["HostConfig"]
    return found


def container_body(image: str, command: Sequence[str] | str, options: Options) -> tuple[dict[str, Any], str, str]:
    """The body of the request that makes a container, its name, and its platform.

    Raises TypeError for a keyword that is none, and ValueError for a value that cannot be.
    """
    given: dict[str, Any] = {**options}
    name, platform = str(given.pop("name", "")), str(given.pop("platform", ""))
    more, more_of_host = given.pop("config", {}), given.pop("host_config", {})
    body: dict[str, Any] = {"Image": image, "Cmd": words(command) or None, "AttachStdout": True, "AttachStderr": True}
    host: dict[str, Any] = {}
    said: dict[str, str] = {}
    for word, value in given.items():
        option = TABLE.get(word)
        if option is None:
            raise TypeError(_unknown(word))
        if value is None:
            continue
        if option.field in said:
            raise TypeError(f"{said[option.field]} and {word} are the same, Docker's {option.field}: give one of them")
        said[option.field] = word
        try:
            converted = option.convert(value)
        except (ValueError, TypeError, AttributeError) as error:
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"{word}={value!r} cannot be Docker's {option.field}: {error}") from None
        (host if option.of_host else body)[option.field] = converted
    if body.get("OpenStdin"):
        body["StdinOnce"] = body["AttachStdin"] = True
    if "PortBindings" in host:
        body["ExposedPorts"] = {port: {} for port in host["PortBindings"]}
    _split_volumes(host)
    if "LogOptions" in host or "LogDriver" in host:
        host["LogConfig"] = {"Type": host.pop("LogDriver", ""), "Config": host.pop("LogOptions", {})}
    return {**body, **more, "HostConfig": {**host, **more_of_host}}, name, platform


def words(command: Sequence[str] | str) -> list[str]:
    """A command that is one text is for the container's shell."""
    return ["/bin/sh", "-c", command] if isinstance(command, str) and command else list(command)


def pairs(given: Pairs) -> list[str]:
    """name=value texts. A value of None is the name alone, which takes the variable away."""
    if isinstance(given, Mapping):
        return [name if value is None else f"{name}={value}" for name, value in given.items()]
    return _texts(given)


def named(given: Pairs) -> dict[str, str]:
    """The same as names and values."""
    return dict(text.partition("=")[::2] for text in pairs(given))


def _texts(given: Sequence[Any]) -> list[str]:
    if isinstance(given, str):
        raise TypeError("a list of texts is needed, not one text")
    return [str(each) for each in given]


def _size(given: Size) -> int:
    return parse_size(given) if isinstance(given, str) and given != "-1" else int(given)


def _entrypoint(given: Sequence[str] | str) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _ports(given: Mapping[str | int, Published] | Sequence[str]) -> dict[str, list[dict[str, str]]]:
    if not isinstance(given, Mapping):
        return parse_published(_texts(given))
    found: dict[str, list[dict[str, str]]] = {}
    for port, published in given.items():
        several = published if isinstance(published, list | set) else [published]
        for each in several:
            address, host_port = (each[0], each[1:]) if isinstance(each, tuple) else ("", (each,))
            host = (f"{address}:" if address else "") + (str(host_port[0] or "") if host_port else "")
            for inside, binding in mappings(f"{_bracketed(host)}:{port}" if host else str(port)):
                found.setdefault(inside, []).append(binding)
    return found


def _bracketed(host: str) -> str:
    """An IPv6 address before a port as the grammar has it."""
    address, colon, port = host.rpartition(":")
    return f"[{address}]{colon}{port}" if ":" in address and not address.startswith("[") else host


def _volumes(given: Volumes) -> list[Any]:
    if not isinstance(given, Mapping):
        if isinstance(given, str):
            raise TypeError("a list of texts is needed, not one text")
        return [each if isinstance(each, Mount) else _volume(str(each)) for each in given]
    found = []
    for source, place in given.items():
        inside, mode = (place, "") if isinstance(place, str) else (place["bind"], place.get("mode", ""))
        found.append(_volume(f"{source}:{inside}" + (f":{mode}" if mode else "")))
    return found


def _volume(text: str) -> str:
    """A path of the host that begins at this program's directory is made whole, as `run -v` does it."""
    source, colon, rest = text.partition(":")
    if source.startswith((".", "~")) and colon:
        return f"{os.path.abspath(os.path.expanduser(source))}:{rest}"
    return text


def _split_volumes(host: dict[str, Any]) -> None:
    """`Mount`s among the volumes are mounts."""
    binds = host.get("Binds", [])
    mounts = [each.as_json() for each in binds if isinstance(each, Mount)]
    if mounts:
        host["Binds"] = [each for each in binds if not isinstance(each, Mount)]
        host["Mounts"] = [*host.get("Mounts", ()), *mounts]


def _mounts(given: Sequence[Mount | Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [each.as_json() if isinstance(each, Mount) else dict(each) for each in given]


def _tmpfs(given: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    return dict(given) if isinstance(given, Mapping) else dict(text.partition(":")[::2] for text in _texts(given))


def _ulimits(given: Mapping[str, int | tuple[int, int]] | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(given, Mapping):
        return [{key.capitalize(): value for key, value in each.items()} for each in given]
    limits = {name: (value, value) if isinstance(value, int) else value for name, value in given.items()}
    return [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in limits.items()]


def _device(text: str) -> dict[str, str]:
    path, _, rest = text.partition(":")
    inside, _, mode = rest.partition(":")
    if inside and not inside.startswith("/"):
        inside, mode = "", inside
    return {"PathOnHost": path, "PathInContainer": inside or path, "CgroupPermissions": mode or "rwm"}


def _gpus(given: int | str) -> list[dict[str, Any]]:
    """A count, "all", or "device=0,1", as of `run --gpus`."""
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    if isinstance(given, str) and given.startswith("device="):
        return [{**request, "DeviceIDs": given.removeprefix("device=").split(",")}]
    return [{**request, "Count": -1 if given == "all" else int(given)}]


def _restart(given: str | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, str):
        return dict(given)
    name, _, count = given.partition(":")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def _hosts(given: Mapping[str, str] | Sequence[str]) -> list[str]:
    return [f"{name}:{value}" for name, value in given.items()] if isinstance(given, Mapping) else _texts(given)


class Option(NamedTuple):
    """What a keyword becomes: a field of the body, or of its HostConfig."""

    field: str
    convert: Callable[[Any], Any]
    of_host: bool = True


def _config(field: str, convert: Callable[[Any], Any]) -> Option:
    return Option(field, convert, of_host=False)


TABLE: dict[str, Option] = {
    "env": _config("Env", pairs),
    "environment": _config("Env", pairs),
    "labels": _config("Labels", named),
    "user": _config("User", str),
    "workdir": _config("WorkingDir", str),
    "working_dir": _config("WorkingDir", str),
    "hostname": _config("Hostname", str),
    "domainname": _config("Domainname", str),
    "entrypoint": _config("Entrypoint", _entrypoint),
    "tty": _config("Tty", bool),
    "stdin": _config("OpenStdin", bool),
    "stdin_open": _config("OpenStdin", bool),
    "stop_signal": _config("StopSignal", str),
    "stop_timeout": _config("StopTimeout", int),
    "healthcheck": _config("Healthcheck", dict),
    "network": Option("NetworkMode", str),
    "network_mode": Option("NetworkMode", str),
    "ports": Option("PortBindings", _ports),
    "publish_all": Option("PublishAllPorts", bool),
    "publish_all_ports": Option("PublishAllPorts", bool),
    "volumes": Option("Binds", _volumes),
    "mounts": Option("Mounts", _mounts),
    "tmpfs": Option("Tmpfs", _tmpfs),
    "volumes_from": Option("VolumesFrom", _texts),
    "volume_driver": Option("VolumeDriver", str),
    "memory": Option("Memory", _size),
    "mem_limit": Option("Memory", _size),
    "memory_swap": Option("MemorySwap", _size),
    "memswap_limit": Option("MemorySwap", _size),
    "memory_reservation": Option("MemoryReservation", _size),
    "mem_reservation": Option("MemoryReservation", _size),
    "shm_size": Option("ShmSize", _size),
    "cpus": Option("NanoCpus", lambda cpus: int(float(cpus) * 10**9)),
    "nano_cpus": Option("NanoCpus", int),
    "cpu_shares": Option("CpuShares", int),
    "cpu_period": Option("CpuPeriod", int),
    "cpu_quota": Option("CpuQuota", int),
    "cpuset_cpus": Option("CpusetCpus", str),
    "cpuset_mems": Option("CpusetMems", str),
    "pids_limit": Option("PidsLimit", int),
    "blkio_weight": Option("BlkioWeight", int),
    "oom_kill_disable": Option("OomKillDisable", bool),
    "oom_score_adj": Option("OomScoreAdj", int),
    "ulimits": Option("Ulimits", _ulimits),
    "sysctls": Option("Sysctls", named),
    "read_only": Option("ReadonlyRootfs", bool),
    "privileged": Option("Privileged", bool),
    "init": Option("Init", bool),
    "cap_add": Option("CapAdd", _texts),
    "cap_drop": Option("CapDrop", _texts),
    "security_opt": Option("SecurityOpt", _texts),
    "group_add": Option("GroupAdd", _texts),
    "devices": Option("Devices", lambda texts: [_device(text) for text in _texts(texts)]),
    "device_cgroup_rules": Option("DeviceCgroupRules", _texts),
    "gpus": Option("DeviceRequests", _gpus),
    "device_requests": Option("DeviceRequests", lambda given: [dict(each) for each in given]),
    "dns": Option("Dns", _texts),
    "dns_search": Option("DnsSearch", _texts),
    "dns_opt": Option("DnsOptions", _texts),
    "extra_hosts": Option("ExtraHosts", _hosts),
    "links": Option("Links", _hosts),
    "restart": Option("RestartPolicy", _restart),
    "restart_policy": Option("RestartPolicy", _restart),
    "auto_remove": Option("AutoRemove", bool),
    "log_driver": Option("LogDriver", str),
    "log_opts": Option("LogOptions", named),
    "ipc_mode": Option("IpcMode", str),
    "pid_mode": Option("PidMode", str),
    "uts_mode": Option("UTSMode", str),
    "userns_mode": Option("UsernsMode", str),
    "cgroupns": Option("CgroupnsMode", str),
    "cgroup_parent": Option("CgroupParent", str),
    "runtime": Option("Runtime", str),
    "storage_opt": Option("StorageOpt", named),
}

# Words that somebody may bring along, and what is said instead.
_ELSEWHERE = {
    "detach": "start() begins a container in the background",
    "remove": "run() removes its container unless keep=True; auto_remove has the engine do it",
    "rm": "run() removes its container unless keep=True; auto_remove has the engine do it",
    "stdout": "a Result has both streams",
    "stderr": "a Result has both streams",
    "stream": "run() takes an output function, and a container's logs(stream=True) gives what it prints as it comes",
    "log_config": "it is log_driver and log_opts",
    "env_file": "read the file, and give its names and values as env",
    "add_host": "it is extra_hosts",
    "publish": "it is ports",
    "volume": "it is volumes",
    "mount": "it is mounts",
    "label": "it is labels",
    "cpu_count": "only engines on Windows have it",
    "cpu_percent": "only engines on Windows have it",
}


def _unknown(word: str) -> str:
    told = f"{word!r} is not an option of a container"
    if word in _ELSEWHERE:
        return f"{told}: {_ELSEWHERE[word]}"
    from difflib import get_close_matches

    close = get_close_matches(word, [*TABLE, "name", "platform", "config", "host_config"], 1)
    if not close:
        return f"{told}: what has no word here goes into config or host_config, in the words of the Engine API"
    docker = f", Docker's {TABLE[close[0]].field}" if close[0] in TABLE else ""
    return f"{told}: did you mean {close[0]!r}{docker}?"
