"""The instructions of a Dockerfile, typed, as they are written: variables are not expanded yet.

Two instructions are equal when they say the same, wherever they stand.
"""

import re
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal, cast

from msgspec import Struct

from wherry.common import key_values
from wherry.common.sizes import parse_size
from wherry.common.values import parse_bool
from wherry.dockerfile.expansion import split_raw, unquote
from wherry.dockerfile.lexer import NOWHERE, DockerfileError, Position, suggestion

# ``RUN --mount=type=…,key=value,…``: one flag's text to a typed mount.

MountType = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
Sharing = Literal["", "shared", "private", "locked"]

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_KEYS = (
    *("type", "from", "source", "target", "readonly", "readwrite", "id", "sharing", "required", "size"),
    *("mode", "uid", "gid", "env"),
)
_FLAGS = ("readonly", "ro", "readwrite", "rw", "required")


class Mount(Struct, frozen=True, kw_only=True):
    """A mount of one RUN. ``text`` is the flag's value as written; what it does not say has Docker's default.

    ``source_stage`` (``from=``) is a stage or an image, "" the build context. ``target`` may be relative to the
    working directory, and is that when it is "". ``size`` is in bytes, 0 is no limit. ``cache_id`` is ``id=``: of a
    cache (default: its target), a secret or an ssh agent. ``environment`` is the variable that a secret is given in,
    None for none.
    """

    text: str
    type: MountType = "bind"
    source_stage: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = True
    size: int = 0
    cache_id: str = ""
    sharing: Sharing = ""
    required: bool = False
    environment: str | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


def parse_mount(text: str, expand: Callable[[str], str] | None = None) -> Mount:
    """The mount that a flag's value describes.

    ``expand`` replaces the variables in a value. Without it values that have any are left at their defaults, as they
    are before the build begins; ``from=`` may never have one, since the graph of stages is made of it.
    Raises DockerfileError.
    """
    values: dict[str, str] = {}
    deferred = False
    for key, value, field in _fields(text):
        key = _ALIASES.get(key, key)
        if key not in _KEYS:
            raise DockerfileError(f"unexpected key '{key}' in '{field}'{suggestion(key, _KEYS)}")
        if key == "from" and "$" in value[:-1]:
            raise DockerfileError("'from' doesn't support variable expansion, define alias stage instead")
        if expand is not None:
            value = expand(value)
        elif "$" in value:
            deferred = True
            continue
        if key == "readwrite":
            key, value = "readonly", "false" if _boolean("readwrite", value) else "true"
        values[key] = value
    return _mount(text, values, complete=not deferred)


def _fields(text: str) -> Iterator[tuple[str, str, str]]:
    try:
        yield from key_values.pairs(text, _FLAGS)
    except ValueError as error:
        csv = "" if str(error).startswith("invalid field") else "failed to parse csv mounts: "
        raise DockerfileError(f"{csv}{error}") from None


def _mount(text: str, values: dict[str, str], *, complete: bool) -> Mount:
    kind = values.get("type", "bind").lower()
    if kind not in _TYPES:
        raise DockerfileError(f'unsupported mount type "{kind}": expected {_one_of(_TYPES)}')
    sharing = values.get("sharing", "").lower()
    if sharing and sharing not in _SHARING:
        raise DockerfileError(f'unsupported sharing value "{sharing}": expected {_one_of(_SHARING)}')
    mount = Mount(
        text=text,
        type=cast("MountType", kind),
        source_stage=values.get("from", ""),
        source=values.get("source", ""),
        target=values.get("target", ""),
        read_only=_boolean("readonly", values["readonly"]) if "readonly" in values else kind not in ("cache", "tmpfs"),
        size=_size(values["size"]) if "size" in values else 0,
        cache_id=values.get("id", ""),
        sharing=cast("Sharing", sharing),
        required=_boolean("required", values.get("required", "false")),
        environment=values.get("env"),
        mode=_number("mode", values, 8),
        uid=_number("uid", values, 10),
        gid=_number("gid", values, 10),
    )
    if complete:
        _check(mount, values)
    return mount


def _one_of(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _check(mount: Mount, values: dict[str, str]) -> None:
    """What a type of mount may have, and must."""
    kind = mount.type
    if "required" in values and kind not in ("secret", "ssh"):
        raise DockerfileError(f"unexpected key 'required' for mount type '{kind}'")
    if "size" in values and kind != "tmpfs":
        raise DockerfileError(f"unexpected key 'size' for mount type '{kind}'")
    for key in ("mode", "uid", "gid"):
        if key in values and kind in ("bind", "tmpfs"):
            raise DockerfileError(f'{key} not allowed for "{kind}" type mounts')
    if kind == "secret":
        if mount.source_stage:
            raise DockerfileError("secret mount should not have a from")
        if mount.sharing:
            raise DockerfileError("secret mount should not define sharing")
        if not (mount.source or mount.target or mount.cache_id):
            raise DockerfileError("invalid secret mount. one of source, target required")
        if mount.source and mount.cache_id:
            raise DockerfileError("both source and id can't be set")
    if mount.sharing and kind != "cache":
        raise DockerfileError(f"invalid cache sharing set for {kind} mount")


def _boolean(key: str, value: str) -> bool:
    try:
        return parse_bool(value)
    except ValueError:
        raise DockerfileError(f"invalid value for {key}: {value}: expected true or false") from None


def _number(key: str, values: dict[str, str], base: int) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    digits = "01234567" if base == 8 else "0123456789"
    if not value or len(value) > 12 or value.strip(digits) or int(value, base) >= 1 << 32:
        form = "an octal number" if base == 8 else "a number"
        raise DockerfileError(f"invalid value {value} for {key}: expected {form}")
    return int(value, base)


def _size(value: str) -> int:
    try:
        return parse_size(value)
    except ValueError:
        reason = f"invalid value for size: {value}: expected a number of bytes, or one with k, m or g"
        raise DockerfileError(reason) from None


# Here-documents: ``<<EOF``, ``<<-EOF`` (tabs stripped), ``<<"EOF"`` (nothing expanded), ``3<<EOF`` (a descriptor).

_START = re.compile(r"([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)", re.DOTALL)
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)


class HereDocument(Struct, frozen=True):
    """``word`` is how it began, ``body`` the lines between, as written. ``expand``: its variables are replaced."""

    word: str
    name: str
    body: str = ""
    expand: bool = True
    strip_tabs: bool = False

    @property
    def content(self) -> str:
        """The body as it is meant: without the tabs at the beginnings of lines, for ``<<-``."""
        return _LEADING_TABS.sub("", self.body) if self.strip_tabs else self.body

    @property
    def written(self) -> str:
        """The body and the line that ends it."""
        return f"{self.body}{self.name}"


def parse_start(word: str) -> HereDocument | None:
    """The here-document that ``word`` begins, without its body; None when it begins none.

    Raises DockerfileError when the name's quotes do not match.
    """
    match = _START.fullmatch(word)
    if match is None or not match[3]:
        return None
    names = unquote(match[3])
    if len(names) != 1:
        return None
    quoted = "".join(unquote(match[3], raw_quotes=True))
    # A quote that the expansion took away was one, not part of the name: then nothing in the body is expanded.
    expand = _quotes(quoted) == _quotes(names[0])
    return HereDocument(word, names[0], expand=expand, strip_tabs=match[2] == "-")


def find_starts(text: str) -> list[HereDocument]:
    """The here-documents that the words of a line begin, in order, without bodies.

    A line whose quotes do not match is a matter for the shell, and begins none.
    """
    try:
        words = split_raw(text)
    except DockerfileError:
        return []
    return [found for word in words if (found := parse_start(word)) is not None]


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')


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
