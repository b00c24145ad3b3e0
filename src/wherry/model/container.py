"""A container as the engine keeps it: what was asked for, what it became, and how it is."""

import enum

import msgspec

from wherry.model.config import ContainerConfig
from wherry.model.health import Health
from wherry.model.host import HostConfig, LogConfig, PortBinding
from wherry.model.network import Attachment, EndpointSettings
from wherry.model.volume import MountPoint


class Status(enum.StrEnum):
    """The words of ``docker ps`` and of its ``status`` filter."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class State(msgspec.Struct):
    """How a container is. Times are nanoseconds since the epoch, 0 for never; ``pid`` is the host's view of PID 1."""

    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: int = 0
    finished_at: int = 0
    health: Health | None = None

    @property
    def running(self) -> bool:
        return self.status in (Status.RUNNING, Status.PAUSED)


class Container(msgspec.Struct):
    """One row of the state. ``created`` in nanoseconds since the epoch; ``image_id`` and ``chain_id`` are digests.

    ``networks`` and ``attachments`` have the networks' names for keys; ``ports`` are the published ones while it runs,
    by the container's ("80/tcp"). ``user_stopped`` remembers that a person stopped it, which the restart policy
    "unless-stopped" respects. ``log`` is the driver in use, which the host configuration may call by another name.
    """

    id: str
    name: str
    created: int
    image: str
    image_id: str
    chain_id: str
    path: str
    args: list[str]
    config: ContainerConfig
    host_config: HostConfig
    networks: dict[str, EndpointSettings] = {}
    attachments: dict[str, Attachment] = {}
    ports: dict[str, list[PortBinding]] = {}
    mounts: list[MountPoint] = []
    state: State = msgspec.field(default_factory=State)
    restart_count: int = 0
    user_stopped: bool = False
    log: LogConfig = msgspec.field(default_factory=LogConfig)
    log_path: str = ""
    architecture: str = ""  # the image's, by Go's name
