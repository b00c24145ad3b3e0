"""What the history of an image says of each step, in the words that BuildKit has made usual."""

import json
from collections.abc import Mapping, Sequence

from wherry.dockerfile import instructions as ins
from wherry.dockerfile.expansion import expand
from wherry.model.container import ContainerConfig, HealthConfig

COMMENT = "buildkit.dockerfile.v0"  # what programs that read histories know this wording by
_ESCAPES = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 39: r"\'", 92: r"\\"}
_UNITS = ((3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"))


def run(words: Sequence[str], arguments: Mapping[str, str]) -> str:
    given = [f"|{len(arguments)}", *(f"{name}={value}" for name, value in arguments.items())] if arguments else []
    return f"RUN {' '.join([*given, *words])} # buildkit"


def files(instruction: ins.Copy | ins.Add) -> str:
    words = [instruction.keyword]
    if isinstance(instruction, ins.Copy) and instruction.parents:
        words.append("--parents")
    words += [f"--chown={instruction.chown}"] if instruction.chown else []
    words += [f"--chmod={instruction.chmod}"] if instruction.chmod else []
    words += [source if isinstance(source, str) else f"<<{source.name}" for source in instruction.sources]
    return " ".join([*words, instruction.destination, "# buildkit"])


def workdir(path: str) -> str:
    return f"WORKDIR {path}"


def configuration(instruction: ins.Instruction, config: ContainerConfig) -> str:
    """An instruction that only changes the configuration, which ``config`` is after it."""
    match instruction:
        case ins.Cmd():
            return f"CMD {_words(config.cmd or ())}"
        case ins.Entrypoint():
            return f"ENTRYPOINT {_words(config.entrypoint or ())}"
        case ins.Env() | ins.Label():
            return f"{instruction.keyword} {' '.join(f'{pair.key}={pair.value}' for pair in instruction.pairs)}"
        case ins.Expose():
            ports = sorted(config.exposed_ports or {})
            return f"EXPOSE map[{' '.join(f'{port}:{{}}' for port in ports)}]"
        case ins.Volume():
            return f"VOLUME [{' '.join(instruction.paths)}]"
        case ins.User():
            return f"USER {instruction.user}"
        case ins.Shell():
            return f"SHELL [{' '.join(instruction.arguments)}]"
        case ins.StopSignal():
            return f"STOPSIGNAL {instruction.signal}"
        case ins.HealthCheck():
            return f"HEALTHCHECK {_health(config.healthcheck)}"
        case ins.Maintainer():
            return f"MAINTAINER {instruction.maintainer}"
    return instruction.keyword


def argument(arg: ins.Arg, variables: Mapping[str, str], escape: str) -> str:
    """The defaults, as they are before --build-arg."""
    written = (each.name if each.default is None else f"{each.name}={each.default}" for each in arg.declarations)
    return f"ARG {' '.join(expand(each, variables, escape=escape) for each in written)}"


def _words(words: Sequence[str]) -> str:
    return f"[{' '.join(json.dumps(word, ensure_ascii=False) for word in words)}]"


def _health(check: object) -> str:
    """As Go prints the struct."""
    if not isinstance(check, HealthConfig):
        return "NONE"
    durations = (check.interval, check.timeout, check.start_period, check.start_interval)
    times = " ".join(f'"{_duration(each)}"' for each in durations)
    return f"&{{{_words(check.test)} {times} '{_character(check.retries)}'}}"


def _character(number: int) -> str:
    """As Go prints a number that it takes for a character."""
    if number in _ESCAPES:
        return _ESCAPES[number]
    return chr(number) if 0x20 <= number < 0x7F else f"\\x{number:02x}"


def _duration(nanoseconds: int) -> str:
    """As Go prints it: "1m0s"."""
    if nanoseconds % _UNITS[-1][0]:
        return f"{nanoseconds / 1e9:g}s" if nanoseconds > 1e9 else f"{nanoseconds / 1e6:g}ms"
    parts, begun = [], False
    for unit, name in _UNITS:
        amount, nanoseconds = divmod(nanoseconds, unit)
        begun = begun or bool(amount)
        if begun:
            parts.append(f"{amount}{name}")
    return "".join(parts) or "0s"
