"""What an instruction does to the configuration of an image, by Docker's rules. Nothing is changed in place.

The instruction's variables are expanded before (substitution.py). RUN, COPY and ADD change files, ARG the build's
arguments, MAINTAINER the image's author: they leave the configuration as it is.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar, cast

from msgspec import UNSET, Struct
from msgspec.structs import replace

from wherry.common.values import clean_path
from wherry.dockerfile.expansion import expand, expand_words
from wherry.dockerfile.flags import check_signal, parse_ports
from wherry.dockerfile.instructions import (
    Add,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    HereDocument,
    Instruction,
    Label,
    OnBuild,
    Pair,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
    parse_mount,
    parse_start,
)
from wherry.dockerfile.lexer import DockerfileError, Lexer
from wherry.dockerfile.parser import parse_statement
from wherry.dockerfile.statements import read_statements
from wherry.model.container import ContainerConfig, HealthConfig

DEFAULT_SHELL = ("/bin/sh", "-c")


def configure(config: ContainerConfig, instruction: Instruction, *, command_set: bool = False) -> ContainerConfig:
    """The configuration after the instruction.

    ``command_set`` says that a CMD stood before it in this stage: ENTRYPOINT drops a CMD that comes from the base
    image, and keeps one of its own stage. Raises DockerfileError with the instruction's place.
    """
    try:
        return _configure(config, instruction, command_set)
    except DockerfileError as error:
        raise error.at(instruction.position) from None


def sets_command(instruction: Instruction) -> bool:
    """Whether an ENTRYPOINT after this instruction keeps the command: what ``command_set`` of configure() wants."""
    return isinstance(instruction, Cmd) and bool(instruction.command.arguments)


def command_words(command: CommandLine, config: ContainerConfig) -> list[str]:
    """The words to run: in shell form those of SHELL (default ``/bin/sh -c``) and the text."""
    if not command.shell:
        return list(command.arguments)
    return [*((config.shell if config.shell is not UNSET else None) or DEFAULT_SHELL), *command.arguments]


def join_directory(current: str, requested: str) -> str:
    """WORKDIR's new directory: absolute, without ``.``, ``..`` and double slashes."""
    return clean_path(requested if requested.startswith("/") else f"/{current}/{requested}")


def set_variables(environment: Iterable[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """``NAME=value`` for each pair, in the place of the variable's old value, or at the end."""
    changed = list(environment)
    # Where a name stands twice, the first one is set, as in Docker.
    places = {variable.partition("=")[0]: number for number, variable in reversed(list(enumerate(changed)))}
    for name, value in pairs:
        place = places.setdefault(name, len(changed))
        changed[place : place + 1] = [f"{name}={value}"]
    return changed


def _configure(config: ContainerConfig, instruction: Instruction, command_set: bool) -> ContainerConfig:
    match instruction:
        case Cmd():
            return replace(config, cmd=command_words(instruction.command, config))
        case Entrypoint():
            return _entrypoint(config, instruction.command, command_set)
        case Env():
            if not all(pair.key for pair in instruction.pairs):
                raise DockerfileError("ENV names can not be blank")
            pairs = ((pair.key, pair.value) for pair in instruction.pairs)
            return replace(config, env=set_variables(config.env or (), pairs))
        case Label():
            return replace(config, labels={**config.labels, **{pair.key: pair.value for pair in instruction.pairs}})
        case Expose():
            exposed = dict(config.exposed_ports) if config.exposed_ports is not UNSET else {}
            exposed |= {port: {} for specification in instruction.ports for port in parse_ports(specification)}
            return replace(config, exposed_ports=exposed)
        case Volume():
            if not all(instruction.paths):
                raise DockerfileError("VOLUME specified can not be an empty string")
            return replace(config, volumes={**(config.volumes or {}), **{path: {} for path in instruction.paths}})
        case Workdir():
            if not instruction.path:
                raise DockerfileError("WORKDIR has an empty path: expected one like /app")
            return replace(config, working_dir=join_directory(config.working_dir, instruction.path))
        case StopSignal():
            check_signal(instruction.signal)
            return replace(config, stop_signal=instruction.signal)
        case HealthCheck():
            return replace(config, healthcheck=_health(instruction))
        case User():
            return replace(config, user=instruction.user)
        case Shell():
            return replace(config, shell=list(instruction.arguments))
        case OnBuild():
            return replace(config, on_build=[*(config.on_build or ()), instruction.expression])
    return config


def _entrypoint(config: ContainerConfig, command: CommandLine, command_set: bool) -> ContainerConfig:
    # "ENTRYPOINT []" and a bare "ENTRYPOINT" take the base image's away.
    words = command_words(command, config) if command.arguments else None
    return replace(config, entrypoint=words, cmd=config.cmd if command_set else None)


def _health(check: HealthCheck) -> HealthConfig:
    return HealthConfig(
        test=list(check.test),
        interval=check.interval,
        timeout=check.timeout,
        start_period=check.start_period,
        start_interval=check.start_interval,
        retries=check.retries,
    )


# Which parts of an instruction have variables, and an instruction with its variables replaced.
#
# ADD, COPY, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR, the values of RUN's mounts, and here-documents that
# are files. The commands of RUN, CMD, ENTRYPOINT and HEALTHCHECK are left to their shell, ONBUILD to the build that it
# comes up in. FROM and ARG have rules of their own, see arguments.py.

_I = TypeVar("_I", bound=Instruction)
_F = TypeVar("_F", Add, Copy)


def expand_instruction(instruction: _I, variables: Mapping[str, str], *, escape: str = "\\") -> _I:
    """The instruction as it is carried out, given the environment and the build arguments before it.

    All of an instruction sees the variables as they were before it: ``ENV a=1 b=$a`` takes a's old value for b.
    Raises DockerfileError with the instruction's place.
    """
    try:
        return cast("_I", _Substitution(variables, escape).instruction(instruction))
    except DockerfileError as error:
        raise error.at(instruction.position) from None


class _Substitution:
    def __init__(self, variables: Mapping[str, str], escape: str) -> None:
        self._variables = variables
        self._escape = escape

    def text(self, word: str) -> str:
        return expand(word, self._variables, escape=self._escape)

    def texts(self, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self.text(word) for word in words)

    def instruction(self, instruction: Instruction) -> Instruction:
        match instruction:
            case Env() | Label():
                return replace(instruction, pairs=self._pairs(instruction.pairs))
            case Expose():
                words = (expand_words(port, self._variables, escape=self._escape) for port in instruction.ports)
                return replace(instruction, ports=tuple(port for found in words for port in found))
            case Run():
                return replace(
                    instruction, mounts=tuple(parse_mount(mount.text, self.text) for mount in instruction.mounts)
                )
            case Add():
                return replace(self._files(instruction), checksum=self.text(instruction.checksum))
            case Copy():
                return self._files(instruction)
            case StopSignal():
                return replace(instruction, signal=self.text(instruction.signal))
            case User():
                return replace(instruction, user=self.text(instruction.user))
            case Volume():
                return replace(instruction, paths=self.texts(instruction.paths))
            case Workdir():
                return replace(instruction, path=self.text(instruction.path))
        return instruction

    def _files(self, instruction: _F) -> _F:
        return replace(
            instruction,
            sources=tuple(
                self.text(source) if isinstance(source, str) else self._heredoc(source)
                for source in instruction.sources
            ),
            destination=self.text(instruction.destination),
            chown=self.text(instruction.chown),
            chmod=self.text(instruction.chmod),
        )

    def _pairs(self, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        return tuple(replace(pair, key=self.text(pair.key), value=self.text(pair.value)) for pair in pairs)

    def _heredoc(self, heredoc: HereDocument) -> HereDocument:
        """Expanded text has no tabs left to strip. Its escape is the backslash, whatever the file's directive says."""
        if not heredoc.expand:
            return heredoc
        return replace(heredoc, body=expand(heredoc.content, self._variables, quotes=False), strip_tabs=False)


# ``commit --change`` and ``import --change``: some of a Dockerfile's instructions, applied to a configuration.

_ALLOWED = frozenset(
    ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
)


def apply_changes(config: ContainerConfig, changes: Iterable[str]) -> ContainerConfig:
    """The configuration after the changes, in order. ``config`` itself stays as it is.

    Variables are those of the configuration's environment. As in Docker, an ENTRYPOINT drops the command unless a CMD
    comes before it among the changes.

    Raises DockerfileError, for an instruction that is not allowed with Docker's text: ``RUN is not a valid change
    command``.
    """
    changes = list(changes)
    lexer = Lexer("\n".join(changes), "")
    instructions = []
    for statement in read_statements(lexer):
        if statement.keyword not in _ALLOWED:
            raise DockerfileError(f"{statement.written} is not a valid change command", statement.position)
        instructions.append(parse_statement(statement))
    if changes and not instructions:
        raise DockerfileError("file with no instructions")
    command_set = False
    for instruction in instructions:
        variables = dict(variable.partition("=")[::2] for variable in config.env or ())
        expanded = expand_instruction(instruction, variables, escape=lexer.escape)
        config = configure(config, expanded, command_set=command_set)
        command_set = command_set or sets_command(instruction)
    return config


# What a RUN gives to its shell when it has here-documents.

SCRIPT_DIRECTORY = "/dev/pipes"


class Script(Struct, frozen=True):
    """A file that a RUN brings with it: to be there while it runs, executable (0755), and not in the image."""

    path: str
    content: str


def run_command(run: Run) -> tuple[CommandLine, Script | None]:
    """The command to run and the script that it needs.

    ``RUN <<EOF`` alone gives the text to the shell, so that it works in shells without here-documents; a text that
    begins with ``#!`` becomes a script of its own. With a command before it (``RUN python3 <<EOF``) command and
    here-documents go to the shell as they are written.
    """
    if not run.heredocs or not run.command.shell:
        return run.command, None
    text, first = run.command.arguments[0], run.heredocs[0]
    if parse_start(text) is None:
        return CommandLine(("\n".join([text, *(heredoc.written for heredoc in run.heredocs)]),), shell=True), None
    if not first.content.startswith("#!"):
        return CommandLine((first.content,), shell=True), None
    script = Script(f"{SCRIPT_DIRECTORY}/{first.name}", first.content)
    return CommandLine((script.path,), shell=True), script
