"""``--sysctl``: settings of the kernel that a container can have of its own, since they belong to a namespace."""

from wherry.model.errors import InvalidParameter
from wherry.model.host import HostConfig

_OF_EVERY_CONTAINER = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
_OF_IPC = {
    *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem"),
    *("kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"),
}


def check(host: HostConfig) -> None:
    """Raises InvalidParameter for a setting of the host's, which no container may change."""
    for text in host.sysctls or {}:
        name = text.replace("/", ".")
        if name.startswith("net."):
            kind, mode = "network", host.network_mode
        elif name in _OF_IPC or name.startswith("fs.mqueue."):
            kind, mode = "IPC", host.ipc_mode
        elif name == "kernel.domainname":
            kind, mode = "UTS", host.uts_mode or host.network_mode  # with the host's network goes its UTS namespace
        else:
            raise InvalidParameter(f'sysctl "{text}" is not in a separate kernel namespace')
        if mode == "host":
            raise InvalidParameter(f'sysctl "{text}" not allowed in host {kind} namespace')


def complete(host: HostConfig) -> dict[str, str]:
    """Docker's, that let a container's user bind any port and ping, and the user's own."""
    if host.network_mode == "host" or host.network_mode.startswith("container:"):
        return dict(host.sysctls or {})
    return _OF_EVERY_CONTAINER | (host.sysctls or {})
