"""What a build was asked for, wherever it was asked."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import msgspec

from wherry.common.errors import EngineError
from wherry.dockerfile.lexer import NOWHERE, DockerfileError, Position
from wherry.engine.image.remote_cache import Blobs
from wherry.model.container import Ulimit
from wherry.registry.auth import Credentials

# What a RUN can only have when it is allowed with --allow.
INSECURE = "security.insecure"
HOST_NETWORK = "network.host"
ENTITLEMENTS = (INSECURE, HOST_NETWORK)


class Limits(msgspec.Struct, frozen=True):
    """What each RUN may have. Bytes and the kernel's units; 0 is no limit."""

    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    shm_size: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    cgroup_parent: str = ""


class Attachables(msgspec.Struct, frozen=True):
    """What a client hands over beside the context, and what never lands in an image or on a disk.

    ``secrets`` are contents by id, ``ssh`` sockets of agents on this machine by id, ``allow`` entitlements.
    """

    secrets: dict[str, bytes] = {}
    ssh: dict[str, str] = {}
    allow: tuple[str, ...] = ()


class NamedContext(msgspec.Struct, frozen=True):
    """What a name in a Dockerfile means that the client has said: an image, one that ``bring`` fetches for a platform
    and gives the id of, a directory of this machine, or an address of a repository or an archive."""

    image: str = ""
    bring: Callable[[str], Awaitable[str]] | None = None
    directory: str = ""
    address: str = ""


class Client(Protocol):
    """Who asks for a build and can be asked in turn, while it goes on."""

    async def secret(self, secret_id: str) -> bytes | None: ...

    async def credentials(self, domain: str) -> Credentials: ...

    def agent(self, agent_id: str, directory: str) -> AbstractAsyncContextManager[str]:
        """A socket in ``directory`` that the client's ssh agent answers on. Raises EngineError when there is none."""


Keeps = Literal["none", "failed", "all"]


class BuildRequest(msgspec.Struct, frozen=True):
    """``dockerfile`` is a path in the context; ``outside`` is what it is called when it was only put there to be sent.

    ``build_args`` without a value (None) are as if not given.

    ``credentials`` are log-ins by the registries' domains. ``cache_from`` are images that bring their cache along;
    ``caches`` are those of other places. The steps of the stages ``no_cache_for`` are all carried out. ``contexts`` go
    before stages and images of the same names. ``classic``: by the rules of Docker's classic builder, where BuildKit
    has others. ``keeps`` says which containers of RUNs stay.
    """

    dockerfile: str = "Dockerfile"
    outside: str = ""
    tags: tuple[str, ...] = ()
    target: str = ""
    platform: str = ""
    network: str = ""
    build_args: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    extra_hosts: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    caches: tuple[Blobs, ...] = ()
    security: tuple[str, ...] = ()
    no_cache: bool = False
    no_cache_for: tuple[str, ...] = ()
    pull: bool = False
    squash: bool = False
    limits: Limits = Limits()
    given: Attachables = Attachables()
    credentials: dict[str, Credentials] = {}
    client: Client | None = None
    contexts: dict[str, NamedContext] = {}
    classic: bool = False
    keeps: Keeps = "none"

    @property
    def only_cache_from(self) -> bool:
        """Whether a step that is found again must have been a step of one of the images of ``cache_from``."""
        return self.classic and bool(self.cache_from)

    @property
    def is_apart(self) -> bool:
        """Whether no step of another build is as good as one of its own."""
        return self.no_cache or self.only_cache_from

    @property
    def arguments(self) -> dict[str, str]:
        return {name: value for name, value in self.build_args.items() if value is not None}


# A step that failed: where it stands, and the exit code that the builder ends with.


class StepFailed(EngineError):
    """``code`` is the exit code of the ``command``, 1 for what was none; ``status`` that of what went wrong."""

    def __init__(self, reason: str, position: Position, code: int = 1, status: int = 500, *, command: str = "") -> None:
        super().__init__(f"{reason}\n{position.excerpt()}" if position.file else reason)
        self.reason, self.position = reason, position
        self.command, self.code = command, code
        self.status = status

    def without_place(self) -> "StepFailed":
        return StepFailed(self.reason, NOWHERE, self.code, self.status, command=self.command)

    @property
    def headline(self) -> str:
        """What went wrong, without the place, as BuildKit says it."""
        if self.command:
            return f'process "{self.command}" did not complete successfully: exit code: {self.code}'
        return self.reason


def at(error: EngineError, position: Position) -> StepFailed:
    """The same error with its place, unless it has one."""
    if isinstance(error, StepFailed):
        return error
    if isinstance(error, DockerfileError):
        placed = error.at(position)
        failed = StepFailed(placed.message, NOWHERE, status=error.status)
        failed.reason, failed.position = placed.message.partition("\n")[0], placed.position
        return failed
    return StepFailed(error.message, position, status=error.status)
