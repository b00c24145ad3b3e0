"""The instructions of a Dockerfile, typed, as they are written: variables are not expanded yet.

Two instructions are equal when they say the same, wherever they stand.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from wherry.dockerfile.errors import NOWHERE, Position
from wherry.dockerfile.heredocs import HereDocument
from wherry.dockerfile.mounts import Mount

Network = Literal["default", "none", "host"]
Security = Literal["sandbox", "insecure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """Base of all of them. ``keyword`` is the instruction's name in capitals."""

    keyword: ClassVar[str]
    position: Position = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command. In shell form (``shell``) one text, or none; in exec form the words to run as they are."""

    arguments: tuple[str, ...]
    shell: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """One of ENV's or LABEL's. ``legacy`` is the form without ``=``, where the value is the rest of the line."""

    key: str
    value: str
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Declaration:
    """One of ARG's names, and its default: None when there is none, "" for ``name=``."""

    name: str
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """``name`` is the stage's, in lower case, "" when it has none."""

    keyword = "FROM"
    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    keyword = "ARG"
    declarations: tuple[Declaration, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    keyword = "RUN"
    command: CommandLine
    heredocs: tuple[HereDocument, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: Network = "default"
    security: Security = "sandbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """``sources`` are paths, and come before ``heredocs``, which are files of their own.

    ``source_stage`` (``--from``) is a stage's name or number, or an image; "" is the build context.
    """

    keyword = "COPY"
    sources: tuple[str, ...]
    heredocs: tuple[HereDocument, ...] = ()
    destination: str
    source_stage: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Instruction):
    """``sources`` may also be URLs, git addresses and archives. None for a flag that is not given."""

    keyword = "ADD"
    sources: tuple[str, ...]
    heredocs: tuple[HereDocument, ...] = ()
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    keyword = "CMD"
    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    keyword = "ENTRYPOINT"
    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    keyword = "ENV"
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    keyword = "LABEL"
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """``ports`` are words like ``80``, ``53/udp``, ``8000-8010/tcp`` or ``$PORT``, sorted as Docker sorts them."""

    keyword = "EXPOSE"
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    keyword = "VOLUME"
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    keyword = "USER"
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    keyword = "WORKDIR"
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    keyword = "SHELL"
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    keyword = "STOPSIGNAL"
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck(Instruction):
    """``test`` is ``("NONE",)``, ``("CMD", word, …)`` or ``("CMD-SHELL", text)``.

    Durations are in nanoseconds; 0 takes the default.
    """

    keyword = "HEALTHCHECK"
    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBuild(Instruction):
    """``text`` is the line that is kept for later, as written; ``trigger`` is what it says."""

    keyword = "ONBUILD"
    text: str
    heredocs: tuple[HereDocument, ...] = ()
    trigger: Instruction = field(compare=False)

    @property
    def expression(self) -> str:
        """What the image carries: the line and its here-documents."""
        return "\n".join([self.text, *(heredoc.written for heredoc in self.heredocs)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    keyword = "MAINTAINER"
    maintainer: str


TYPES: dict[str, type[Instruction]] = {
    kind.keyword: kind
    for kind in (
        *(Add, Arg, Cmd, Copy, Entrypoint, Env, Expose, From, HealthCheck),
        *(Label, Maintainer, OnBuild, Run, Shell, StopSignal, User, Volume, Workdir),
    )
}
KEYWORDS = tuple(TYPES)
