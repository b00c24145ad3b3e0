"""What an instruction does to the configuration of an image, by Docker's rules. Nothing is changed in place.

The instruction's variables are expanded before (substitution.py). RUN, COPY and ADD change files, ARG the build's
arguments, MAINTAINER the image's author: they leave the configuration as it is.
"""

from collections.abc import Iterable

from msgspec import UNSET
from msgspec.structs import replace

from wherry.dockerfile.errors import DockerfileError
from wherry.dockerfile.instructions import (
    Cmd,
    CommandLine,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    OnBuild,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from wherry.dockerfile.paths import clean_path
from wherry.dockerfile.ports import parse_ports
from wherry.dockerfile.stopsignals import check_signal
from wherry.model.config import ContainerConfig, HealthConfig

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
