"""Writes a container down as the spec that the launcher is given: every decision about it is made here."""

import functools
import os
import platform
from collections.abc import Callable, Sequence

from wherry.common.errors import Conflict, EngineError, InvalidParameter, NotSupported
from wherry.engine.config import EngineConfig
from wherry.engine.container.config import complete_sysctls
from wherry.engine.container.devices import block_device, cgroup_rules, device_nodes, privileged_nodes
from wherry.engine.container.logs import log_of
from wherry.engine.container.mounts import with_host_files
from wherry.engine.container.user_namespaces import maps_of
from wherry.engine.network.attach import Sandbox
from wherry.engine.platforms import is_32_bit
from wherry.linux import capabilities, seccomp
from wherry.linux.cgroups import DeviceRule, Resources, ThrottleDevice
from wherry.linux.mounts import Mount
from wherry.model.container import Container, ContainerConfig, ExecConfig, HostConfig
from wherry.model.container import ThrottleDevice as ThrottleRequest
from wherry.runtime.ipc import OF_USERS
from wherry.runtime.spec import Namespace, NamespaceKind, Process, Rlimit, Spec

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # Docker's default
_INIT = "/sbin/docker-init"  # where Docker puts it
_CPU_PERIOD = 100_000  # microseconds, the kernel's default and Docker's for --cpus

PidOf = Callable[[str], int]
"""Gives the PID 1 of a running container by its name, for the modes that join one."""


def write_spec(
    container: Container,
    rootfs: tuple[Mount, ...],
    directory: str,
    engine: EngineConfig,
    pid_of: PidOf,
    sandbox: Sandbox,
    volumes: Sequence[Mount] = (),
) -> Spec:
    """The whole spec of a container. ``directory`` is the container's own, which holds its log and its host files.

    Raises InvalidParameter for what cannot be, NotSupported for what this engine or machine does not do, and Conflict
    when a container whose namespace is to be joined does not run.
    """
    config, host = container.config, container.host_config
    init = bool(host.init if isinstance(host.init, bool) else engine.init)
    init_path = engine.init_path if init else ""
    maps = maps_of(container)
    return Spec(
        id=container.id,
        exec_dir=f"{engine.exec_root}/{container.id}",
        rootfs=rootfs,
        process=_first_process(container, sandbox.environment, (_INIT, "--") if init_path else ()),
        namespaces=namespaces(host, pid_of),
        uids=maps.uids,
        gids=maps.gids,
        hostname="" if host.uts_mode == "host" else config.hostname,
        domainname="" if host.uts_mode == "host" else config.domainname,
        readonly_root=host.readonly_rootfs,
        mounts=(*_mounts(container, pid_of, directory, volumes), *_init_mount(init_path)),
        masked_paths=tuple(host.masked_paths or ()),
        readonly_paths=tuple(host.readonly_paths or ()),
        readonly_proc=bool(host.readonly_paths) and not maps.uids,  # where it is nobody's in there
        devices=privileged_nodes() if host.privileged else device_nodes(host.devices),
        sysctls=complete_sysctls(host, maps.gids),
        interfaces=sandbox.interfaces,
        bridge_namespace=engine.bridge_namespace if sandbox.interfaces or sandbox.resolver else "",
        resolver=sandbox.resolver,
        cgroup=cgroup_path(container),
        resources=write_resources(host),
        init=init and not engine.init_path,
        log=log_of(container),
    )


def cgroup_path(container: Container) -> str:
    parent = container.host_config.cgroup_parent.strip("/") or "wherry"
    return f"/{parent}/{container.id}"


def _init_mount(path: str) -> tuple[Mount, ...]:
    """The engine's settings name a program of the host to be process 1."""
    return (Mount("bind", path, _INIT, ("bind", "ro")),) if path else ()


def _first_process(container: Container, of_links: tuple[str, ...], init: tuple[str, ...]) -> Process:
    config, host = container.config, container.host_config
    names = resolve_capabilities(host, privileged=host.privileged)
    return Process(
        args=(*init, container.path, *container.args),
        env=_environment(config, before=of_links),
        cwd=config.working_dir or "/",
        user=config.user,
        groups=tuple(host.group_add or ()),
        tty=config.tty,
        console_size=host.console_size if any(host.console_size) else None,
        stdin=config.open_stdin,
        stdin_once=config.stdin_once,
        capabilities=names,
        no_new_privileges=_no_new_privileges(container),
        seccomp=_seccomp_program(container, names),
        rlimits=_rlimits(container),
        oom_score_adj=host.oom_score_adj or None,
        personality="linux32" if is_32_bit(container.architecture) else "",
    )


def exec_process(container: Container, asked: ExecConfig, of_links: tuple[str, ...]) -> Process:
    """One more process beside the container's first: its environment, user and directory unless asked otherwise."""
    config, host = container.config, container.host_config
    privileged = asked.privileged or host.privileged
    names = resolve_capabilities(host, privileged=privileged)
    of_container = resolve_capabilities(host, privileged=host.privileged)
    return Process(
        args=tuple(asked.cmd),
        env=_environment(config, asked.env or [], before=of_links, tty=asked.tty),
        cwd=asked.working_dir or config.working_dir or "/",
        user=asked.user or config.user,
        groups=tuple(host.group_add or ()),
        tty=asked.tty,
        console_size=asked.console_size if asked.console_size and any(asked.console_size) else None,
        stdin=asked.attach_stdin,
        stdin_once=True,
        capabilities=names,
        no_new_privileges=_no_new_privileges(container),
        seccomp=_seccomp_program(container, of_container),  # a privileged exec has the container's filter, as in Docker
        rlimits=_rlimits(container),
        oom_score_adj=host.oom_score_adj or None,
        personality="linux32" if is_32_bit(container.architecture) else "",
    )


def exec_failure(text: str) -> str:
    """Why a process could not be started in a container, in the words that clients know."""
    if text.startswith(OF_USERS):
        return text
    return f"OCI runtime exec failed: exec failed: unable to start container process: {text}: unknown"


def resolve_capabilities(host: HostConfig, *, privileged: bool) -> tuple[str, ...]:
    """What --cap-add and --cap-drop make of Docker's default. Raises InvalidParameter for an unknown name."""
    for field, names in (("CapAdd", host.cap_add), ("CapDrop", host.cap_drop)):
        try:
            capabilities.normalize(names or ())
        except capabilities.CapabilityError as error:
            raise InvalidParameter(f"invalid {field}: {error}") from None
    return capabilities.resolve(host.cap_add or (), host.cap_drop or (), privileged=privileged)


def _environment(
    config: ContainerConfig, more: Sequence[str] = (), *, before: Sequence[str] = (), tty: bool | None = None
) -> tuple[str, ...]:
    """Later entries replace earlier ones in their place; a name without a value takes the variable away."""
    entries = {"PATH": PATH, "HOSTNAME": f"HOSTNAME={config.hostname}"}
    if config.tty if tty is None else tty:
        entries["TERM"] = "TERM=xterm"
    for entry in (*before, *(config.env or ()), *more):
        name, equals, _ = entry.partition("=")
        if equals:
            entries[name] = entry
        else:
            entries.pop(name, None)
    return tuple(entries.values())


def _rlimits(container: Container) -> tuple[Rlimit, ...]:
    limits = {limit.name.lower(): limit for limit in (*container.defaults.ulimits, *container.host_config.ulimits)}
    return tuple(Rlimit(name, limit.soft, limit.hard) for name, limit in limits.items())


def _no_new_privileges(container: Container) -> bool:
    for option in container.host_config.security_opt or ():
        if option == "no-new-privileges":
            return True
        if option.startswith(("no-new-privileges=", "no-new-privileges:")):
            return option[len("no-new-privileges=") :].lower() in ("true", "1", "t")
    return container.defaults.no_new_privileges


def _seccomp_program(container: Container, names: tuple[str, ...]) -> bytes:
    """Compiles the profile that was asked for; without one, a privileged container has none, others the default."""
    host = container.host_config
    profile = None if host.privileged else default_profile(container.defaults.seccomp)
    for option in host.security_opt or ():
        if option.startswith(("seccomp=", "seccomp:")):
            value = option[len("seccomp=") :]
            if value == "unconfined":
                return b""
            profile = seccomp.default_profile() if value == "builtin" else _load_profile(value)
    return b"" if profile is None else seccomp.compile_profile(profile, names, platform.machine())


def default_profile(setting: str) -> seccomp.Profile | None:
    """What --seccomp-profile says: "builtin", "unconfined" (None), or a file. Raises InvalidParameter."""
    if setting == "builtin":
        return seccomp.default_profile()
    return None if setting == "unconfined" else _profile_of(setting)


@functools.cache  # as it was when the engine came up, which asks first
def _profile_of(path: str) -> seccomp.Profile:
    try:
        with open(path, encoding="utf-8") as file:
            return _load_profile(file.read())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InvalidParameter(f"opening seccomp profile ({path}) failed: {reason}") from None


def _load_profile(text: str) -> seccomp.Profile:
    try:
        return seccomp.load_profile(text)
    except seccomp.ProfileError as error:
        raise InvalidParameter(str(error)) from None


def check_security_options(host: HostConfig) -> None:
    """Raises InvalidParameter for options that do not exist, NotSupported for those this engine does not honour."""
    for option in host.security_opt or ():
        name, _, value = option.partition("=" if "=" in option else ":")
        if name == "no-new-privileges":
            if value.lower() not in ("", "true", "1", "t", "false", "0", "f"):
                raise EngineError(f'invalid --security-opt 2: "{option}"')
        elif name == "seccomp" and value:
            if value not in ("unconfined", "builtin"):
                _load_profile(value)
        elif name in ("apparmor", "label"):
            if value not in ("unconfined", "disable"):
                raise NotSupported(f"security option {option!r} is not supported: this engine does not use {name}")
        elif name != "systempaths" or value != "unconfined":
            raise EngineError(f'invalid --security-opt {2 if value else 1}: "{option}"')


def namespaces(host: HostConfig, pid_of: PidOf) -> tuple[Namespace, ...]:
    """Which namespaces are new, and whose the others are; those of the host are not listed."""
    modes: tuple[tuple[NamespaceKind, str], ...] = (
        ("pid", host.pid_mode),
        ("net", host.network_mode),
        ("ipc", host.ipc_mode),
        ("uts", host.uts_mode),
        ("cgroup", host.cgroupns_mode),
    )
    found = [Namespace("mnt")]
    for kind, mode in modes:
        if mode == "host":
            continue
        joined = mode.removeprefix("container:") if mode.startswith("container:") else ""
        found.append(Namespace(kind, pid_of(joined) if joined else None))
    return tuple(found)


def _mounts(container: Container, pid_of: PidOf, directory: str, volumes: Sequence[Mount]) -> tuple[Mount, ...]:
    """What every container has mounted, but where the user mounts something else in its place, and the user's own."""
    host = container.host_config
    taken = {mount.target for mount in volumes}
    kernel = (mount for mount in _kernel_mounts(host, pid_of) if mount.target not in taken)
    return (*kernel, *with_host_files(volumes, directory, read_only=host.readonly_rootfs, idmap=bool(container.uids)))


def _kernel_mounts(host: HostConfig, pid_of: PidOf) -> list[Mount]:
    """What every container sees of the kernel, in Docker's order and with its options."""
    sys_mode = "rw" if host.privileged else "ro"
    mounts = [
        Mount("proc", "proc", "/proc", ("nosuid", "noexec", "nodev")),
        Mount("tmpfs", "tmpfs", "/dev", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        Mount("devpts", "devpts", "/dev/pts",
              ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
        Mount("sysfs", "sysfs", "/sys", ("nosuid", "noexec", "nodev", sys_mode)),
        Mount("cgroup", "cgroup", "/sys/fs/cgroup", ("nosuid", "noexec", "nodev", sys_mode)),
        Mount("mqueue", "mqueue", "/dev/mqueue", ("nosuid", "noexec", "nodev")),
    ]  # fmt: skip
    if host.ipc_mode == "host":
        mounts.append(Mount("bind", "/dev/shm", "/dev/shm", ("rbind", "nosuid", "noexec", "nodev")))
        del mounts[5]
        if os.path.isdir("/dev/mqueue"):  # which not every host has mounted
            mounts.append(Mount("bind", "/dev/mqueue", "/dev/mqueue", ("rbind", "nosuid", "noexec", "nodev")))
    elif host.ipc_mode.startswith("container:"):
        pid = pid_of(host.ipc_mode.removeprefix("container:"))
        mounts.append(Mount("bind", f"/proc/{pid}/root/dev/shm", "/dev/shm", ("rbind", "nosuid", "noexec", "nodev")))
    elif host.ipc_mode != "none":
        options = ("nosuid", "noexec", "nodev", "mode=1777", f"size={host.shm_size}")
        mounts.append(Mount("tmpfs", "shm", "/dev/shm", options))
    return mounts


def write_resources(host: HostConfig) -> Resources:
    """The limits as the kernel counts them. ``--cpus`` becomes a quota of the default period, as in Docker."""
    quota, period = host.cpu_quota, host.cpu_period
    if host.nano_cpus:
        period = _CPU_PERIOD
        quota = host.nano_cpus * _CPU_PERIOD // 1_000_000_000
    return Resources(
        memory=host.memory or None,
        memory_swap=host.memory_swap or None,
        memory_reservation=host.memory_reservation or None,
        memory_swappiness=None if host.memory_swappiness in (None, -1) else host.memory_swappiness,
        oom_kill_disable=bool(host.oom_kill_disable),
        cpu_shares=host.cpu_shares or None,
        cpu_quota=quota or None,
        cpu_period=period or None,
        cpu_rt_runtime=host.cpu_realtime_runtime or None,
        cpu_rt_period=host.cpu_realtime_period or None,
        cpuset_cpus=host.cpuset_cpus or None,
        cpuset_mems=host.cpuset_mems or None,
        pids=host.pids_limit if host.pids_limit not in (None, 0) else None,
        blkio_weight=host.blkio_weight or None,
        blkio_weight_device=tuple(
            ThrottleDevice(*block_device(device.path), device.weight) for device in host.blkio_weight_device
        ),
        blkio_read_bps=_throttles(host.blkio_device_read_bps),
        blkio_write_bps=_throttles(host.blkio_device_write_bps),
        blkio_read_iops=_throttles(host.blkio_device_read_iops),
        blkio_write_iops=_throttles(host.blkio_device_write_iops),
        devices=(DeviceRule(True),) if host.privileged else cgroup_rules(host.devices, host.device_cgroup_rules or ()),
    )


def _throttles(asked: Sequence[ThrottleRequest]) -> tuple[ThrottleDevice, ...]:
    return tuple(ThrottleDevice(*block_device(device.path), device.rate) for device in asked)


def not_running(name: str) -> Conflict:
    return Conflict(f"cannot join the namespace of a non running container: {name}")
