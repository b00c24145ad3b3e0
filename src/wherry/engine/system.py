"""``info`` and ``version``: what this engine is, and what it stands on."""

import json
import os
import platform
import sys
from typing import Any

from wherry import __version__
from wherry.common import times
from wherry.common.platforms import host_architecture
from wherry.engine.container import cdi, logs
from wherry.engine.context import Context, Service
from wherry.engine.network.drivers import NetworkDrivers
from wherry.linux import user_namespaces
from wherry.linux.cgroups import Hierarchies
from wherry.model.container import Status
from wherry.registry.http import shown_proxies
from wherry.runtime import features

API_VERSION = "1.54"
SERVER_VERSION = "29.3.0+wherry"
"""Of the Docker that has this version of the API, since clients reckon with it: some refuse a major version below 1,
others one that is before some feature. What is behind + counts for nothing in a comparison. wherry's own version is not
in it: cAdvisor, and so the kubelet, takes only a text with one x.y.z in it."""
MIN_API_VERSION = "1.24"
_FEATURES = "org.opencontainers.runtime-spec.features"
_NO_FIREWALL = (
    "WARNING: No firewall rules are made: published ports are forwarded by the engine itself, and containers reach "
    "nothing outside unless this host routes and masquerades for them"
)
_WAITING = "WARNING: {} starts wait for their turn; {} are under way, of {} at a time"


_ONE_ID = f"WARNING: Files and processes belong to root alone: {user_namespaces.NO_SUCH_ID}"


class System(Service):
    def __init__(self, context: Context, drivers: NetworkDrivers) -> None:
        super().__init__(context)
        self._hierarchies = context.hierarchies
        self._registries = context.registries
        self.id = context.engine_id
        self._starts = context.starts
        self._drivers = drivers

    def version(self) -> dict[str, Any]:
        kernel = platform.release()
        architecture = host_architecture()
        python = platform.python_version()
        return {
            "Platform": {"Name": "wherry"},
            "Components": [
                {
                    "Name": "Engine",
                    "Version": SERVER_VERSION,
                    "Details": {
                        "ApiVersion": API_VERSION,
                        "Arch": architecture,
                        "Experimental": "true" if self._config.experimental else "false",
                        "KernelVersion": kernel,
                        "MinAPIVersion": MIN_API_VERSION,
                        "Os": "linux",
                        "PythonVersion": python,
                    },
                },
                {"Name": "wherry", "Version": __version__, "Details": {}},
            ],
            "Version": SERVER_VERSION,
            "ApiVersion": API_VERSION,
            "MinAPIVersion": MIN_API_VERSION,
            "GitCommit": "",
            "GoVersion": f"none (Python {python})",
            "Os": "linux",
            "Arch": architecture,
            "KernelVersion": kernel,
            "BuildTime": "",
        }

    def info(self) -> dict[str, Any]:
        states = [entry.record.state.status for entry in self._entries]
        supports = self._hierarchies.supports
        known = cdi.Registry(self._config.cdi_directories)
        starts = self._starts.standing
        has_firewall = self._drivers.rules is not None
        return {
            "ID": self.id,
            "Containers": len(states),
            "ContainersRunning": states.count(Status.RUNNING),
            "ContainersPaused": states.count(Status.PAUSED),
            "ContainersStopped": sum(s not in (Status.RUNNING, Status.PAUSED) for s in states),
            "Images": self._store.images.count(),
            "Driver": "overlay2",
            "DriverStatus": [
                ["Backing Filesystem", _file_system(self._config.data_root)],
                ["Supports d_type", "true"],  # overlayfs takes no other
                ["Using metacopy", "false"],
                ["Native Overlay Diff", "true"],
                ["userxattr", "false" if user_namespaces.is_initial() else "true"],
            ],
            "Plugins": {
                "Volume": ["local"],
                "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
                "Authorization": list(self._config.authorization_plugins) or None,
                "Log": [driver for driver in logs.DRIVERS if driver != "none"],
            },
            "MemoryLimit": supports("memory"),
            "SwapLimit": supports("memory.swap"),
            "CpuCfsPeriod": supports("cpu.quota"),
            "CpuCfsQuota": supports("cpu.quota"),
            "CPUShares": supports("cpu.shares"),
            "CPUSet": supports("cpuset"),
            "PidsLimit": supports("pids"),
            "OomKillDisable": supports("memory.oom_kill_disable"),
            "IPv4Forwarding": _read("/proc/sys/net/ipv4/ip_forward") == "1",
            "Debug": self._config.debug,
            "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": 1,
            "SystemTime": times.rfc3339(times.now()),
            "LoggingDriver": self._config.log_driver,
            "CgroupDriver": "cgroupfs" if self._hierarchies else "none",
            "CgroupVersion": str(self._hierarchies.version),
            "NEventsListener": self._events.listeners,
            "KernelVersion": platform.release(),
            "OperatingSystem": _os_release("PRETTY_NAME"),
            "OSVersion": _os_release("VERSION_ID"),
            "OSType": "linux",
            "Architecture": platform.machine(),
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {
                "InsecureRegistryCIDRs": self._registries.insecure_networks,
                "IndexConfigs": {
                    "docker.io": {"Name": "docker.io", "Mirrors": list(self._registries.mirrors), "Secure": True,
                                  "Official": True},
                    **{name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
                       for name in self._registries.insecure_names},
                },
                "Mirrors": list(self._registries.mirrors),
            },
            "NCPU": os.cpu_count() or 1,
            "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "GenericResources": None,
            "DockerRootDir": self._config.data_root,
            **dict(zip(("HttpProxy", "HttpsProxy", "NoProxy"), shown_proxies(os.environ), strict=True)),
            "Name": os.uname().nodename,
            "Labels": list(self._config.labels),
            "ExperimentalBuild": self._config.experimental,
            "ServerVersion": SERVER_VERSION,
            "Runtimes": {name: _runtime() for name in {"wherry", self._config.default_runtime}},
            "DefaultRuntime": self._config.default_runtime,
            "Swarm": {
                "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": "",
                "RemoteManagers": None,
            },
            "LiveRestoreEnabled": self._config.live_restore,
            "Isolation": "",
            "InitBinary": self._config.init_path or "wherry",
            "ContainerdCommit": {"ID": ""},
            "RuncCommit": {"ID": ""},
            "InitCommit": {"ID": ""},
            "SecurityOptions": self._security_options(),
            "FirewallBackend": {"Driver": "nftables" if has_firewall else "none"},
            "Warnings": [
                *_warnings(self._hierarchies),
                *([] if has_firewall else [_NO_FIREWALL]),
                *(f"WARNING: {text}" for text in self._drivers.warnings()),
                *([_ONE_ID] if user_namespaces.has_one_id() else []),
                *(f"WARNING: CDI: {error}" for error in known.errors),
                *([_WAITING.format(*starts)] if starts.waiting else []),
            ],
            "Starts": {"Waiting": starts.waiting, "UnderWay": starts.under_way, "AtATime": starts.limit},
            "CDISpecDirs": list(self._config.cdi_directories),
            "DiscoveredDevices": [{"Source": cdi.DRIVER, "ID": name} for name in known.devices],
            "NRI": {"Info": [["enabled", "false"]]},
            **self._address_pools(),
        }  # fmt: skip

    def bridge_filters(self) -> dict[str, bool]:
        """What ``info`` also said until API 1.50: whether the firewall sees what is bridged."""
        where = "/proc/sys/net/bridge/bridge-nf-call-"
        return {f"BridgeNf{name.capitalize()}": _read(where + name) == "1" for name in ("iptables", "ip6tables")}

    def _address_pools(self) -> dict[str, Any]:
        """Only where they are set, as in Docker."""
        pools = [{"Base": pool.base, "Size": pool.size} for pool in self._config.default_address_pools]
        return {"DefaultAddressPools": pools} if pools else {}

    def _security_options(self) -> list[str]:
        config = self._config
        found = {
            f"name=seccomp,profile={config.seccomp_profile}": True,
            "name=cgroupns": config.default_cgroupns_mode == "private",
            "name=no-new-privileges": config.no_new_privileges,
            "name=rootless": config.rootless,
            "name=userns": bool(config.userns_remap),
        }
        return [option for option, is_on in found.items() if is_on]


def _runtime() -> dict[str, Any]:
    return {"path": sys.executable, "status": {_FEATURES: json.dumps(features.describe())}}


def _warnings(hierarchies: Hierarchies) -> list[str]:
    asked = {
        "memory": "memory limit",
        "memory.swap": "swap limit",
        "cpu.quota": "cpu cfs quota",
        "cpuset": "cpuset",
        "pids": "pids limit",
    }
    return [f"WARNING: No {text} support" for name, text in asked.items() if not hierarchies.supports(name)]


def _os_release(name: str) -> str:
    for line in _read("/etc/os-release").splitlines():
        key, _, value = line.partition("=")
        if key == name:
            return value.strip('"')
    return ""


def _file_system(path: str) -> str:
    """The kind of file system that holds ``path``, as Docker names it: those of ext's family have one number."""
    found, length = "unknown", -1
    for line in _read("/proc/self/mounts").splitlines():
        _, target, kind, *_ = line.split()
        if len(target) > length and (path == target or path.startswith(target.rstrip("/") + "/")):
            found, length = kind, len(target)
    return "extfs" if found in ("ext2", "ext3", "ext4") else found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
