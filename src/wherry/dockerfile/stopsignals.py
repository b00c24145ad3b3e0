"""The names of signals that STOPSIGNAL takes, Docker's: ``SIGTERM``, ``TERM``, ``term``, ``15``, ``RTMIN+3``."""

from wherry.dockerfile.errors import DockerfileError, suggestion

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
