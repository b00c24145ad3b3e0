"""``--name=value`` flags of an instruction, against those that it knows; and HEALTHCHECK's durations."""

from collections.abc import Sequence

from msgspec import Struct

from wherry.common.ports import mappings
from wherry.common.times import parse_duration
from wherry.dockerfile.lexer import DockerfileError, suggestion

_LEAST = 1_000_000  # nanoseconds, a millisecond


class Flags(Struct, frozen=True):
    """What an instruction's flags say. A text that is not given is "", a switch is None."""

    texts: dict[str, str] = {}
    switches: dict[str, bool] = {}
    lists: dict[str, list[str]] = {}

    def text(self, name: str) -> str:
        return self.texts.get(name, "")

    def switch(self, name: str) -> bool | None:
        return self.switches.get(name)

    def list(self, name: str) -> tuple[str, ...]:
        return tuple(self.lists.get(name, ()))


def parse_flags(
    given: Sequence[str], *, texts: Sequence[str] = (), switches: Sequence[str] = (), lists: Sequence[str] = ()
) -> Flags:
    """Sorts the flags by what they take: a text once, true or false, a text many times. Raises DockerfileError."""
    flags = Flags()
    for flag in given:
        name, separator, value = flag[2:].partition("=")
        if name in lists:
            _need_value(name, separator)
            flags.lists.setdefault(name, []).append(value)
            continue
        if name not in texts and name not in switches:
            known = [f"--{each}" for each in (*texts, *switches, *lists)]
            expected = f": expected {' or '.join(known)}" if known else ": this instruction takes no flags"
            raise DockerfileError(f"unknown flag: --{name}{suggestion(f'--{name}', known) or expected}")
        if name in flags.texts or name in flags.switches:
            raise DockerfileError(f"duplicate flag specified: --{name}")
        if name in switches:
            flags.switches[name] = _switch(name, separator, value)
        else:
            _need_value(name, separator)
            flags.texts[name] = value
    return flags


def _need_value(name: str, separator: str) -> None:
    if not separator:
        raise DockerfileError(f"missing a value on flag: --{name}: expected --{name}=VALUE")


def _switch(name: str, separator: str, value: str) -> bool:
    if not separator:
        return True
    if not value:
        raise DockerfileError(f"missing a value on flag: --{name}")
    if value.lower() not in ("true", "false"):
        raise DockerfileError(f"expecting boolean value for flag --{name}, not: {value}")
    return value.lower() == "true"


def parse_interval(name: str, text: str) -> int:
    """Nanoseconds of a text like ``1m30s`` or ``1.5h``; 0 for "" and "0". ``name`` is the flag's, for the error."""
    try:
        nanoseconds = parse_duration(text or "0")
    except ValueError as error:
        raise DockerfileError(f"{error} for --{name}: expected one like 30s, 1m30s or 500ms") from None
    if nanoseconds and nanoseconds < _LEAST:
        raise DockerfileError(f'Interval "{name}" cannot be less than 1ms')
    return nanoseconds


def parse_ports(specification: str) -> list[str]:
    """The container's ports of an EXPOSE, each as ``80/tcp``: an image has no others. Raises DockerfileError."""
    try:
        return list(dict(mappings(specification)))
    except ValueError as error:
        raise DockerfileError(str(error)) from None


# The names of signals that STOPSIGNAL takes, Docker's: ``SIGTERM``, ``TERM``, ``term``, ``15``, ``RTMIN+3``.

_NAMES = frozenset(
    (
        *("ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE"),
        *("POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU"),
        *("URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX"),
        *(f"RTMIN+{number}" for number in range(1, 16)),
        *(f"RTMAX-{number}" for number in range(1, 15)),
    )
)
_LAST = 64


def check_signal(text: str) -> None:
    """Raises DockerfileError when ``text`` is no signal's name or number."""
    if text.isascii() and text.isdecimal():
        if len(text) > 3 or not 0 < int(text) <= _LAST:
            raise DockerfileError(f"invalid signal: {text}: expected a number from 1 to {_LAST}, or a name")
    elif text.upper().removeprefix("SIG") not in _NAMES:
        near = suggestion(text.upper(), (f"SIG{name}" for name in _NAMES))
        raise DockerfileError(f"invalid signal: {text}{near or ': expected a name like SIGTERM, or a number'}")
