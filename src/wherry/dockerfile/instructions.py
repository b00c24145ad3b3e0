"""The instructions of a Dockerfile, typed, as they are written: variables are not expanded yet.

Two instructions are equal when they say the same, wherever they stand.
"""

from typing import ClassVar, Literal

from msgspec import Struct

from wherry.dockerfile.errors import NOWHERE, Position
from wherry.dockerfile.heredocs import HereDocument
from wherry.dockerfile.mounts import Mount

Network = Literal["default", "none", "host"]
Security = Literal["sandbox", "insecure"]


class Instruction(Struct, frozen=True, kw_only=True, eq=False):
    """Base of all of them. ``keyword`` is the instruction's name in capitals."""

    keyword: ClassVar[str]
    position: Position = NOWHERE

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        fields = (name for name in self.__struct_fields__ if name != "position")
        return all(getattr(self, name) == getattr(other, name) for name in fields)

    def __hash__(self) -> int:
        values = (getattr(self, name) for name in self.__struct_fields__ if name != "position")
        return hash((self.keyword, *values))


class CommandLine(Struct, frozen=True):
    """A command. In shell form (``shell``) one text, or none; in exec form the words to run as they are."""

    arguments: tuple[str, ...]
    shell: bool = False


class Pair(Struct, frozen=True):
    """One of ENV's or LABEL's. ``legacy`` is the form without ``=``, where the value is the rest of the line."""

    key: str
    value: str
    legacy: bool = False


class Declaration(Struct, frozen=True):
    """One of ARG's names, and its default: None when there is none, "" for ``name=``."""

    name: str
    default: str | None = None


class From(Instruction, frozen=True, kw_only=True):
    """``name`` is the stage's, in lower case, "" when it has none."""

    keyword = "FROM"
    image: str
    name: str = ""
    platform: str = ""


class Arg(Instruction, frozen=True, kw_only=True):
    keyword = "ARG"
    declarations: tuple[Declaration, ...]


class Run(Instruction, frozen=True, kw_only=True):
    keyword = "RUN"
    command: CommandLine
    heredocs: tuple[HereDocument, ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: Network = "default"
    security: Security = "sandbox"


class Files(Instruction, frozen=True, kw_only=True):
    """What COPY and ADD have in common. A source is a path, or a here-document, which is a file of its own."""

    sources: tuple[str | HereDocument, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()

    @property
    def heredocs(self) -> tuple[HereDocument, ...]:
        return tuple(source for source in self.sources if isinstance(source, HereDocument))


class Copy(Files, frozen=True, kw_only=True):
    """``source_stage`` (``--from``) is a stage's name or number, or an image; "" is the build context."""

    keyword = "COPY"
    source_stage: str = ""
    parents: bool = False


class Add(Files, frozen=True, kw_only=True):
    """Its paths may also be URLs, git addresses and archives. None for a switch that is not given."""

    keyword = "ADD"
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


class Cmd(Instruction, frozen=True, kw_only=True):
    keyword = "CMD"
    command: CommandLine


class Entrypoint(Instruction, frozen=True, kw_only=True):
    keyword = "ENTRYPOINT"
    command: CommandLine


class Env(Instruction, frozen=True, kw_only=True):
    keyword = "ENV"
    pairs: tuple[Pair, ...]


class Label(Instruction, frozen=True, kw_only=True):
    keyword = "LABEL"
    pairs: tuple[Pair, ...]


class Expose(Instruction, frozen=True, kw_only=True):
    """``ports`` are words like ``80``, ``53/udp``, ``8000-8010/tcp`` or ``$PORT``, sorted as Docker sorts them."""

    keyword = "EXPOSE"
    ports: tuple[str, ...]


class Volume(Instruction, frozen=True, kw_only=True):
    keyword = "VOLUME"
    paths: tuple[str, ...]


class User(Instruction, frozen=True, kw_only=True):
    keyword = "USER"
    user: str


class Workdir(Instruction, frozen=True, kw_only=True):
    keyword = "WORKDIR"
    path: str


class Shell(Instruction, frozen=True, kw_only=True):
    keyword = "SHELL"
    arguments: tuple[str, ...]


class StopSignal(Instruction, frozen=True, kw_only=True):
    keyword = "STOPSIGNAL"
    signal: str


class HealthCheck(Instruction, frozen=True, kw_only=True):
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


class OnBuild(Instruction, frozen=True, kw_only=True):
    """``text`` is the line that is kept for later, as written; ``trigger`` is what it says."""

    keyword = "ONBUILD"
    text: str
    heredocs: tuple[HereDocument, ...] = ()
    trigger: Instruction

    @property
    def expression(self) -> str:
        """What the image carries: the line and its here-documents."""
        return "\n".join([self.text, *(heredoc.written for heredoc in self.heredocs)])


class Maintainer(Instruction, frozen=True, kw_only=True):
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
