"""What a container runs: the part of its configuration that travels with an image."""

from typing import Any

import msgspec


class HealthConfig(msgspec.Struct, rename="pascal", omit_defaults=True):
    """A health check. Durations in nanoseconds; 0 takes the default."""

    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(msgspec.Struct, rename="pascal"):
    """The API's ContainerConfig, which is also the "config" of an image. Sets are dicts with empty values, as in Go."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: HealthConfig | msgspec.UnsetType = msgspec.UNSET
    args_escaped: bool | msgspec.UnsetType = msgspec.UNSET
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool | msgspec.UnsetType = msgspec.UNSET
    mac_address: str | msgspec.UnsetType = msgspec.UNSET
    on_build: list[str] | None = None
    labels: dict[str, str] = {}
    stop_signal: str | msgspec.UnsetType = msgspec.UNSET
    stop_timeout: int | msgspec.UnsetType = msgspec.UNSET
    shell: list[str] | msgspec.UnsetType = msgspec.UNSET
