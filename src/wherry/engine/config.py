"""How an engine is set up: what of the daemon's settings the engine reads, by their names in daemon.json."""

import msgspec

from wherry.model.container import Ulimit

CDI_SPEC_DIRS = ("/etc/cdi", "/var/run/cdi")


class AddressPool(msgspec.Struct, frozen=True):
    """Networks without a subnet of their own get one of the length ``size`` below ``base``."""

    base: str
    size: int


class EngineConfig(msgspec.Struct, rename="kebab"):
    """``data_root`` outlives the machine's restarts, ``exec_root`` does not. ``hosts`` are the API's addresses.

    All of the engine has the same one: ``Engine.reload`` changes it.
    """

    data_root: str = "/var/lib/wherry"
    exec_root: str = "/run/wherry"
    rootless: bool = False  # an ordinary user's, who is root in its user namespace alone
    hosts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    debug: bool = False
    experimental: bool = False
    authorization_plugins: tuple[str, ...] = ()
    features: dict[str, bool] = msgspec.field(default_factory=dict)
    live_restore: bool = True
    shutdown_timeout: int = 15  # seconds that containers get to end in, where they do not outlive the engine

    # Of containers that do not say otherwise
    log_driver: str = "json-file"
    log_opts: dict[str, str] = msgspec.field(default_factory=dict)
    default_stop_timeout: int = 10  # seconds between the stop signal and SIGKILL, Docker's figure
    init: bool = False
    init_path: str = ""  # "" is the engine's own
    default_runtime: str = "wherry"
    default_ulimits: tuple[Ulimit, ...] = ()
    default_shm_size: int = 64 << 20
    default_ipc_mode: str = "private"
    default_cgroupns_mode: str = ""  # "" is what the host's version of cgroups makes of it
    default_userns_mode: str = ""  # "" is the machine's user namespace
    userns_remap: str = ""
    cgroup_parent: str = ""
    no_new_privileges: bool = False
    seccomp_profile: str = "builtin"
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    host_gateway_ips: tuple[str, ...] = ()
    cdi_spec_dirs: tuple[str, ...] = ()  # none are Docker's, and "" alone is no directory

    # Of networks; from ``bip`` to ``mtu`` of the default one
    icc: bool = True  # its containers reach each other
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    ipv6: bool = False
    ip: str = "0.0.0.0"
    ip_masq: bool = True
    mtu: int = 0  # 0 is the host's
    default_address_pools: tuple[AddressPool, ...] = ()
    default_network_opts: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    iptables: bool = True  # the firewall is used; the name is Docker's
    ip_forward: bool = True
    userland_proxy: bool = True

    # Of registries
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    max_concurrent_downloads: int = 16
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5

    @property
    def bridge_namespace(self) -> str:
        """The file of the network namespace that bridges are in, where it is not the engine's own."""
        return f"{self.exec_root}/network" if self.rootless else ""

    @property
    def cdi_directories(self) -> tuple[str, ...]:
        if not self.features.get("cdi", True):
            return ()
        return tuple(filter(None, self.cdi_spec_dirs)) if self.cdi_spec_dirs else CDI_SPEC_DIRS
