"""How an engine is set up."""

import msgspec


class EngineConfig(msgspec.Struct, frozen=True):
    """``data_root`` outlives the machine's restarts, ``exec_root`` does not. ``hosts`` are the API's addresses."""

    data_root: str = "/var/lib/wherry"
    exec_root: str = "/run/wherry"
    hosts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    log_driver: str = "local"
    log_options: dict[str, str] = msgspec.field(default_factory=lambda: {"max-size": "-1"})  # keep all, as Docker does
    stop_timeout: int = 10  # seconds between the stop signal and SIGKILL, Docker's figure
    init: bool = False
    icc: bool = True  # containers on the default network reach each other
    iptables: bool = True  # the firewall is used; the name is Docker's
    debug: bool = False
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
