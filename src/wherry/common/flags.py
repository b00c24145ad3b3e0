"""Command line flags that behave as docker's (the Go library pflag): `-it`, `-e A=1`, `-eA=1`, `-e=A=1`, `--env A=1`,
`--rm=false`, `--`, flags after arguments where a command allows them, and the same words when something is wrong.

A command declares its flags as a list of these:

    flags = [
        flags.switch("force", "f", "Force the removal of a running container (uses SIGKILL)"),
        flags.strings("env", "e", "Set environment variables"),
        flags.string("signal", "s", "Signal to send to the container"),
    ]

and is given an `Options`: `options["force"]`, `options.changed("signal")`, `options.arguments`.
"""

from __future__ import annotations

import os

from wherry.common import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    # Takes the text that was given and the value so far, and gives the new value. Raises ValueError.
    Parse = Callable[[str, Any], Any]


class FlagError(Exception):
    """The command line is not right; the text says why."""


class HelpRequested(Exception):
    """--help, or a deprecated -h."""


class Flag:
    """One flag: `kind` is the type's name as help shows it ("" for a switch); `show` the default as help shows it."""

    __slots__ = ("default", "deprecated", "hidden", "kind", "name", "parse", "short", "show", "store", "usage")

    def __init__(
        self,
        name: str,
        short: str,
        usage: str,
        kind: str,
        default: Any,
        parse: Parse,
        *,
        show: str = "",
        hidden: bool = False,
        deprecated: str = "",
        store: str = "",
    ) -> None:
        """`store`: the name of the flag that this is another spelling of."""
        self.name, self.short, self.usage, self.kind = name, short, usage, kind
        self.default, self.parse, self.show = default, parse, show
        self.hidden, self.deprecated, self.store = hidden, deprecated, store or name


def switch(name: str, short: str, usage: str, default: bool = False, **more: Any) -> Flag:
    """True or false; given alone it is true."""
    return Flag(name, short, usage, "", default, _boolean, show="true" if default else "", **more)


def content_trust(usage: str) -> Flag:
    """--disable-content-trust: on, unless docker's variable asks for the signatures of images to be checked."""
    wanted = os.environ.get("DOCKER_CONTENT_TRUST", "") not in ("", "0", "f", "F", "false", "False", "FALSE")
    return switch("disable-content-trust", "", usage, not wanted)


def string(name: str, short: str, usage: str, default: str = "", **more: Any) -> Flag:
    return Flag(name, short, usage, "string", default, _string, show=f'"{default}"' if default else "", **more)


def platform(usage: str) -> Flag:
    return string("platform", "", f'{usage} Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")')


def integer(name: str, short: str, usage: str, default: int = 0, **more: Any) -> Flag:
    """64 bits, also as 0x1f, 0o17 or 017."""
    return Flag(name, short, usage, "int", default, _integer, show=str(default) if default else "", **more)


def unsigned(name: str, short: str, usage: str, bits: int = 64, **more: Any) -> Flag:
    parse: Parse = lambda text, _: values.parse_unsigned(text, bits, base=0)  # noqa: E731
    return Flag(name, short, usage, f"uint{bits}" if bits < 64 else "uint", 0, parse, **more)


def duration(name: str, short: str, usage: str, **more: Any) -> Flag:
    """Nanoseconds, from text like 1m30s."""
    return Flag(name, short, usage, "duration", 0, _duration, **more)


def size(name: str, short: str, usage: str, **more: Any) -> Flag:
    """Bytes, from text like 512m."""
    return Flag(name, short, usage, "bytes", 0, _size, **more)


def swap(usage: str) -> Flag:
    """--memory-swap: bytes, or -1."""
    parse: Parse = lambda text, _: -1 if text == "-1" else _size(text, _)  # noqa: E731
    return Flag("memory-swap", "", usage, "bytes", 0, parse)


def strings(name: str, short: str, usage: str, check: Callable[[str], str] | None = None, **more: Any) -> Flag:
    """A list: each use of the flag adds to it, after `check` has looked at it (and may change it)."""
    if check is None:
        parse: Parse = _append
    else:
        parse = lambda text, so_far: [*so_far, check(text)]  # noqa: E731
    return Flag(name, short, usage, more.pop("kind", "list"), [], parse, **more)


def pairs(name: str, short: str, usage: str, check: Callable[[str], str] | None = None, **more: Any) -> Flag:
    """A dict of key=value pairs."""

    def parse(text: str, so_far: dict[str, str]) -> dict[str, str]:
        key, _, value = (check(text) if check else text).partition("=")
        return {**so_far, key: value}

    return Flag(name, short, usage, "map", {}, parse, show="map[]", **more)


def ulimits(name: str, usage: str) -> Flag:
    """A list of the API's Ulimits, one a name."""

    def parse(text: str, so_far: list[dict[str, Any]]) -> list[dict[str, Any]]:
        limit = values.parse_ulimit(text)
        others = [other for other in so_far if other["Name"] != limit["Name"]]
        return sorted([*others, limit], key=lambda one: str(one["Name"]))

    return Flag(name, "", usage, "ulimit", [], parse, show="[]")


_TEMPLATE = """'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"""


def template(short: str = "") -> Flag:
    """--format of one thing."""
    usage = "Format output using a custom template:\n'json':             Print in JSON format\n"
    return string("format", short, usage + _TEMPLATE)


def listing() -> Flag:
    """--format of a listing."""
    return string(
        "format",
        "",
        "Format output using a custom template:\n"
        "'table':            Print output in table format with column headers (default)\n"
        "'table TEMPLATE':   Print output in table format using the given Go template\n"
        "'json':             Print in JSON format\n" + _TEMPLATE,
    )


def filters(usage: str, short: str = "f") -> Flag:
    """-f/--filter: the API's dict of lists, {"label": ["a=b", "c"]}."""
    return Flag("filter", short, usage, "filter", {}, _filter)


def _boolean(text: str, _: object) -> bool:
    return values.parse_bool(text)


def _string(text: str, _: object) -> str:
    return text


def _integer(text: str, _: object) -> int:
    return values.parse_int(text, base=0)


# These are imported when they are needed, which is seldom: the command line's start counts.


def _duration(text: str, _: object) -> int:
    from wherry.common.times import parse_duration

    return parse_duration(text)


def _size(text: str, _: object) -> int:
    from wherry.common.sizes import parse_size

    return parse_size(text)


def _append(text: str, so_far: list[str]) -> list[str]:
    return [*so_far, text]


def _filter(text: str, so_far: dict[str, list[str]]) -> dict[str, list[str]]:
    if not text:
        return so_far
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    name, value = name.strip().lower(), value.strip()
    known = so_far.get(name, [])
    return {**so_far, name: known if value in known else [*known, value]}


class Options:
    """What a command line said: the value of each flag by name, and the arguments that are no flags."""

    def __init__(self, flags: Sequence[Flag]) -> None:
        self.arguments: list[str] = []
        self._values = {flag.name: flag.default for flag in flags}
        self._changed: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def changed(self, name: str) -> bool:
        """Whether the flag was on the command line, whatever its value."""
        return name in self._changed

    @property
    def count(self) -> int:
        """How many different flags were given."""
        return len(self._changed)

    def set(self, name: str, value: Any) -> None:
        self._values[name] = value

    def take(self, flag: Flag, text: str) -> None:
        """Raises FlagError when the flag does not accept the text."""
        name = flag.store
        try:
            self._values[name] = flag.parse(text, self._values[name])
        except ValueError as error:
            spelling = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
            raise FlagError(
                f"invalid argument {values.quoted(text)} for {values.quoted(spelling)} flag: {error}"
            ) from error
        self._changed.add(flag.name)
        if flag.deprecated:
            print(f"Flag --{flag.name} has been deprecated, {flag.deprecated}")


def parse(flags: Sequence[Flag], words: Sequence[str], *, interspersed: bool = True) -> Options:
    """Takes a command line apart. Not interspersed: the first argument that is no flag ends the flags.

    Raises FlagError, and HelpRequested for --help and -h where no flag of the command has those names.
    """
    options = Options(flags)
    by_name = {flag.name: flag for flag in flags}
    by_letter = {flag.short: flag for flag in flags if flag.short}
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if len(word) < 2 or word[0] != "-":
            options.arguments.append(word)
            if not interspersed:
                break
        elif word == "--":
            break
        elif word[1] == "-":
            _take_long(options, by_name, word, waiting)
        else:
            _take_letters(options, by_letter, word, waiting)
    options.arguments += reversed(waiting)
    return options


def _take_long(options: Options, by_name: dict[str, Flag], word: str, waiting: list[str]) -> None:
    name, equals, text = word[2:].partition("=")
    if not name or name[0] == "-":
        raise FlagError(f"bad flag syntax: {word}")
    flag = by_name.get(name)
    if flag is None:
        if name == "help":
            raise HelpRequested
        raise FlagError(f"unknown flag: --{name}")
    if not equals:
        if not flag.kind:
            text = "true"
        elif waiting:
            text = waiting.pop()
        else:
            raise FlagError(f"flag needs an argument: {word}")
    options.take(flag, text)
    if name == "help" and options["help"]:
        raise HelpRequested


def _take_letters(options: Options, by_letter: dict[str, Flag], word: str, waiting: list[str]) -> None:
    letters = word[1:]
    while letters:
        letter, rest = letters[0], letters[1:]
        flag = by_letter.get(letter)
        if flag is None:
            if letter == "h":
                print("Flag shorthand -h has been deprecated, use --help")
                raise HelpRequested
            raise FlagError(f"unknown shorthand flag: {values.quoted(letter, chr(39))} in -{letters}")
        if len(rest) > 1 and rest[0] == "=":
            text, letters = rest[1:], ""
        elif not flag.kind:
            text, letters = "true", rest
        elif rest:
            text, letters = rest, ""
        elif waiting:
            text, letters = waiting.pop(), ""
        else:
            raise FlagError(f"flag needs an argument: {values.quoted(letter, chr(39))} in -{letters}")
        options.take(flag, text)


# Of all that join streams.
DETACH_KEYS = string("detach-keys", "", "Override the key sequence for detaching a container")
