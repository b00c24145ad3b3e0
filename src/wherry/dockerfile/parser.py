"""Statements to instructions: what each instruction may have, and must.

>>> parse("FROM debian\\nRUN echo hello\\n").instructions[1].command.arguments
('echo hello',)
"""

import re
from collections.abc import Callable, Iterable
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from wherry.common.values import SPACES
from wherry.dockerfile import instructions as ins
from wherry.dockerfile.flags import Flags, check_signal, parse_flags, parse_interval, parse_ports
from wherry.dockerfile.instructions import HereDocument, parse_mount, parse_start
from wherry.dockerfile.lexer import DockerfileError, DockerfileSyntaxError, Lexer, Position, printable, suggestion
from wherry.dockerfile.statements import (
    Statement,
    exec_form,
    inner_statement,
    read_statements,
    split_blanks,
    split_first,
    split_quoted,
    split_spaces,
)

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_PLAIN_SIGNAL = re.compile(r"[A-Za-z0-9+-]+")
_COPY_FLAGS = ("chown", "chmod")


class Dockerfile(Struct, frozen=True):
    """What a text says. ``directives`` are those of its first lines (``syntax``, ``escape``, ``check``)."""

    file: str
    instructions: tuple[ins.Instruction, ...]
    escape: str = "\\"
    directives: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


def parse(text: str | bytes, file: str = "Dockerfile") -> Dockerfile:
    """Reads a Dockerfile. ``file`` is its name in errors. Raises DockerfileError, for any text that is none."""
    lexer = Lexer(text, file)
    instructions = tuple(parse_statement(statement) for statement in read_statements(lexer))
    if not instructions:
        raise DockerfileError(f"{file or 'the text'}: file with no instructions: expected FROM")
    return Dockerfile(file, instructions, lexer.escape, tuple(lexer.directives.items()), tuple(lexer.warnings))


def parse_trigger(expression: str, position: Position) -> ins.Instruction:
    """The instruction of an ONBUILD that a base image carries; ``position`` is that of the FROM which set it off.

    Raises DockerfileError.
    """
    try:
        found = [parse_statement(statement) for statement in read_statements(Lexer(expression, ""))]
        if len(found) != 1:
            raise DockerfileError(f"onbuild trigger should be a single expression: {expression}")
        _check_trigger(found[0])
    except DockerfileError as error:
        raise DockerfileError(f"{error.reason}, in the base image's ONBUILD {expression}", position) from None
    return replace(found[0], position=replace(position, code=expression))


def parse_statement(statement: Statement) -> ins.Instruction:
    """One instruction. Raises DockerfileSyntaxError with the statement's place."""
    try:
        return _parse(statement)
    except DockerfileError as error:
        raise DockerfileSyntaxError(error.reason, statement.position) from None


def _parse(statement: Statement) -> ins.Instruction:
    kind = _KINDS.get(statement.keyword)
    if kind is None:
        near = suggestion(statement.keyword, ins.KEYWORDS)
        raise DockerfileError(f"unknown instruction: {printable(statement.written, 40) or '(none)'}{near}")
    texts, switches, lists, build = kind
    flags = parse_flags(statement.flags, texts=texts, switches=switches, lists=lists)
    return build(statement, flags)


def _one(statement: Statement) -> str:
    if not statement.arguments:
        raise DockerfileError(f"{statement.keyword} requires exactly one argument")
    return statement.arguments


def _some(statement: Statement, arguments: Iterable[str]) -> tuple[str, ...]:
    found = tuple(arguments)
    if not found:
        raise DockerfileError(f"{statement.keyword} requires at least one argument")
    return found


def _command(arguments: str) -> ins.CommandLine:
    words = exec_form(arguments)
    if words is not None:
        return ins.CommandLine(tuple(words))
    return ins.CommandLine((arguments,) if arguments else (), shell=True)


def _list(arguments: str) -> list[str]:
    words = exec_form(arguments)
    return split_blanks(arguments) if words is None else words


def _from(statement: Statement, flags: Flags) -> ins.From:
    words = split_spaces(statement.arguments)
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
        raise DockerfileError("FROM requires either one or three arguments: expected FROM IMAGE or FROM IMAGE AS NAME")
    name = words[2].lower() if len(words) == 3 else ""
    if name and not _STAGE_NAME.fullmatch(name):
        reason = "name can't start with a number or contain symbols"
        raise DockerfileError(f'invalid name for build stage: "{words[2]}", {reason}')
    return ins.From(image=words[0], name=name, platform=flags.text("platform"), position=statement.position)


def _run(statement: Statement, flags: Flags) -> ins.Run:
    command = _command(statement.arguments)
    if command.shell:  # an empty list is for the builder to judge
        _some(statement, command.arguments)
    network, security = flags.texts.get("network", "default"), flags.texts.get("security", "sandbox")
    if network not in ("default", "none", "host"):
        raise DockerfileError(f'invalid network mode "{network}": expected default, none or host')
    if security not in ("sandbox", "insecure"):
        raise DockerfileError(f'security "{security}" is not valid: expected sandbox or insecure')
    return ins.Run(
        command=command,
        heredocs=statement.heredocs,
        mounts=tuple(parse_mount(text) for text in flags.list("mount")),
        network=cast("ins.Network", network),
        security=cast("ins.Security", security),
        position=statement.position,
    )


def _files(statement: Statement) -> tuple[tuple[str | HereDocument, ...], str]:
    """Sources and destination of COPY and ADD."""
    words = _list(statement.arguments)
    if len(words) < 2:
        reason = f"{statement.keyword} requires at least two arguments, but only one was provided"
        raise DockerfileError(f"{reason}. Destination could not be determined")
    *sources, destination = words
    if parse_start(destination) is not None:
        raise DockerfileError(f"{statement.keyword} cannot accept a heredoc as a destination")
    starts = [source for source in sources if parse_start(source) is not None]
    if starts != [heredoc.word for heredoc in statement.heredocs]:
        raise DockerfileError(
            f"{statement.keyword} has a << that is no source of its own: expected <<NAME, without spaces or quotes "
            "around it, in the form without brackets"
        )
    heredocs = iter(statement.heredocs)
    return tuple(next(heredocs) if source in starts else source for source in sources), destination


def _copy(statement: Statement, flags: Flags) -> ins.Copy:
    sources, destination = _files(statement)
    return ins.Copy(
        sources=sources,
        destination=destination,
        source_stage=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        parents=bool(flags.switch("parents")),
        exclude=flags.list("exclude"),
        position=statement.position,
    )


def _add(statement: Statement, flags: Flags) -> ins.Add:
    sources, destination = _files(statement)
    return ins.Add(
        sources=sources,
        destination=destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.switch("keep-git-dir"),
        unpack=flags.switch("unpack"),
        exclude=flags.list("exclude"),
        position=statement.position,
    )


def _cmd(statement: Statement, flags: Flags) -> ins.Cmd:
    return ins.Cmd(command=_command(statement.arguments), position=statement.position)


def _entrypoint(statement: Statement, flags: Flags) -> ins.Entrypoint:
    return ins.Entrypoint(command=_command(statement.arguments), position=statement.position)


def _pairs(statement: Statement) -> tuple[ins.Pair, ...]:
    """``key=value …``, or the old form ``key rest of the line``: the first word decides."""
    words = _some(statement, split_quoted(statement.arguments, statement.escape))
    if "=" not in words[0]:
        key, value = split_first(statement.arguments)
        if not value:
            raise DockerfileError(f"{statement.keyword} must have two arguments: expected NAME=VALUE")
        return (ins.Pair(key, value, legacy=True),)
    pairs: list[ins.Pair] = []
    for word in words:
        key, separator, content = word.partition("=")
        if not separator:
            raise DockerfileError(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        if not key:
            raise DockerfileError(f"{statement.keyword} names can not be blank")
        pairs.append(ins.Pair(key, content))
    return tuple(pairs)


def _env(statement: Statement, flags: Flags) -> ins.Env:
    return ins.Env(pairs=_pairs(statement), position=statement.position)


def _label(statement: Statement, flags: Flags) -> ins.Label:
    return ins.Label(pairs=_pairs(statement), position=statement.position)


def _arg(statement: Statement, flags: Flags) -> ins.Arg:
    declarations: list[ins.Declaration] = []
    for word in _some(statement, split_quoted(statement.arguments, statement.escape)):
        name, separator, default = word.partition("=")
        if not name:
            raise DockerfileError("ARG names can not be blank")
        declarations.append(ins.Declaration(name, default if separator else None))
    return ins.Arg(declarations=tuple(declarations), position=statement.position)


def _expose(statement: Statement, flags: Flags) -> ins.Expose:
    words = split_spaces(statement.arguments)
    special = re.compile(f"[$'\"{re.escape(statement.escape)}]")
    for word in words:
        if not special.search(word):
            parse_ports(word)
    return ins.Expose(ports=tuple(sorted(_some(statement, words))), position=statement.position)


def _volume(statement: Statement, flags: Flags) -> ins.Volume:
    paths = tuple(path.strip(SPACES) for path in _some(statement, _list(statement.arguments)))
    if not all(paths):
        raise DockerfileError("VOLUME specified can not be an empty string")
    return ins.Volume(paths=paths, position=statement.position)


def _user(statement: Statement, flags: Flags) -> ins.User:
    return ins.User(user=_one(statement), position=statement.position)


def _workdir(statement: Statement, flags: Flags) -> ins.Workdir:
    return ins.Workdir(path=_one(statement), position=statement.position)


def _shell(statement: Statement, flags: Flags) -> ins.Shell:
    words = exec_form(statement.arguments)
    if words is None and statement.arguments:
        raise DockerfileError('SHELL requires the arguments to be in JSON form: expected ["/bin/sh", "-c"]')
    return ins.Shell(arguments=_some(statement, words or ()), position=statement.position)


def _stop_signal(statement: Statement, flags: Flags) -> ins.StopSignal:
    signal = _one(statement)
    if _PLAIN_SIGNAL.fullmatch(signal):
        check_signal(signal)
    return ins.StopSignal(signal=signal, position=statement.position)


def _health_check(statement: Statement, flags: Flags) -> ins.HealthCheck:
    word, rest = split_first(statement.arguments, SPACES)
    kind = word.upper()
    if not kind:
        raise DockerfileError("HEALTHCHECK requires at least one argument: expected CMD or NONE")
    if kind == "NONE":
        if rest:
            raise DockerfileError("HEALTHCHECK NONE takes no arguments")
        return ins.HealthCheck(test=("NONE",), position=statement.position)
    if kind != "CMD":
        raise DockerfileError(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    command = _command(rest)
    if not command.arguments:
        raise DockerfileError("Missing command after HEALTHCHECK CMD")
    return ins.HealthCheck(
        test=("CMD-SHELL" if command.shell else "CMD", *command.arguments),
        interval=parse_interval("interval", flags.text("interval")),
        timeout=parse_interval("timeout", flags.text("timeout")),
        start_period=parse_interval("start-period", flags.text("start-period")),
        start_interval=parse_interval("start-interval", flags.text("start-interval")),
        retries=_retries(flags.text("retries")),
        position=statement.position,
    )


def _retries(text: str) -> int:
    if text.startswith("-") and text[1:].isdecimal():
        raise DockerfileError(f"--retries cannot be negative ({text})")
    if text and not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise DockerfileError(f"invalid value {text} for --retries: expected a number")
    return int(text or 0)


def _on_build(statement: Statement, flags: Flags) -> ins.OnBuild:
    _some(statement, statement.arguments)
    trigger = _parse(inner_statement(statement))
    _check_trigger(trigger)
    return ins.OnBuild(
        text=statement.arguments, heredocs=statement.heredocs, trigger=trigger, position=statement.position
    )


def _check_trigger(trigger: ins.Instruction) -> None:
    if isinstance(trigger, ins.OnBuild):
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if isinstance(trigger, ins.Maintainer | ins.From):
        raise DockerfileError(f"{trigger.keyword} isn't allowed as an ONBUILD trigger")


def _maintainer(statement: Statement, flags: Flags) -> ins.Maintainer:
    return ins.Maintainer(maintainer=_one(statement), position=statement.position)


_Build = Callable[[Statement, Flags], ins.Instruction]
_Kind = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], _Build]
# Of each instruction: the flags that take a text, the switches, the flags that can be repeated, and its maker.
_KINDS: dict[str, _Kind] = {
    "ADD": ((*_COPY_FLAGS, "checksum"), ("link", "keep-git-dir", "unpack"), ("exclude",), _add),
    "ARG": ((), (), (), _arg),
    "CMD": ((), (), (), _cmd),
    "COPY": (("from", *_COPY_FLAGS), ("link", "parents"), ("exclude",), _copy),
    "ENTRYPOINT": ((), (), (), _entrypoint),
    "ENV": ((), (), (), _env),
    "EXPOSE": ((), (), (), _expose),
    "FROM": (("platform",), (), (), _from),
    "HEALTHCHECK": (("interval", "timeout", "start-period", "start-interval", "retries"), (), (), _health_check),
    "LABEL": ((), (), (), _label),
    "MAINTAINER": ((), (), (), _maintainer),
    "ONBUILD": ((), (), (), _on_build),
    "RUN": (("network", "security"), (), ("mount",), _run),
    "SHELL": ((), (), (), _shell),
    "STOPSIGNAL": ((), (), (), _stop_signal),
    "USER": ((), (), (), _user),
    "VOLUME": ((), (), (), _volume),
    "WORKDIR": ((), (), (), _workdir),
}
