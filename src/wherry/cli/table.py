"""Listings: tables, `--format`, and numbers and times as people read them.

A command declares what it lists as a `Listing`, makes its rows of the API's answers, and has their text. The default
table goes straight from the rows to the columns; the template language is loaded only when --format asks for it.
"""

from __future__ import annotations

import time

from wherry.cli.session import Session
from wherry.common import times
from wherry.common.flags import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from wherry.cli.templates import Template

    Columns = dict[str, tuple[str, "str | Callable[[Row], Any]"]]

# The columns of docker's tables: at least ten characters, three of them blank before the next.
MIN_WIDTH, PADDING = 10, 3

TEMPLATE_ERROR = 64  # the exit code for one that does not parse
TABLE, JSON, RAW = "table", "json", "raw"


class Listing:
    """A kind of thing that is listed; `shown` are the columns of its table.

    `columns`: by name a title, and what is shown: a field of the API's, or a function of the row. Docker's client has
    a type for it, `go_type`, whose name stands in error messages.
    """

    def __init__(self, go_type: str, shown: str, columns: Columns) -> None:
        self.go_type, self.shown, self.columns = go_type, shown.split(), columns

    def parameters(self, name: str) -> int | None:
        """How many arguments a field takes in a template; None when there is no such field."""
        if name in self.columns:
            return 0
        return 1 if name == "Label" and "Labels" in self.columns else None

    def text(self, rows: Sequence[Row], format: str, shown: Sequence[str] = ()) -> str:
        """`format` is "" or "table", "table TEMPLATE", "json" or a template. Raises CommandError for a bad template."""
        if format not in ("", TABLE):
            return self._formatted(rows, format)
        names = shown or self.shown
        lines = [[self.columns[name][0] for name in names]]
        lines += [[row.field(name) for name in names] for row in rows]
        return table("".join("\t".join(line) + "\n" for line in lines))

    def _formatted(self, rows: Sequence[Row], format: str) -> str:
        if format.startswith("{{.") and format[3:-2] in self.columns and format.endswith("}}"):
            return "".join(f"{row.field(format[3:-2])}\n" for row in rows)  # as -q has it
        from wherry.cli.session import CommandError
        from wherry.cli.templates import TemplateError, parse

        is_table = format.startswith(TABLE)
        text = "{{json .}}" if format == JSON else format.removeprefix(TABLE) if is_table else format
        text = text.strip(" ").replace("\\t", "\t").replace("\\n", "\n")
        try:
            template = parse(text)
            body = "".join(template.execute(row) + "\n" for row in rows)
        except TemplateError as error:
            raise CommandError(f"template parsing error: {error}") from None
        return table(self._titles(template) + "\n" + body) if is_table else body

    def _titles(self, template: Template) -> str:
        """The first line of a table: its template run over the titles. What does not work on a title is left out."""
        from wherry.cli.templates import TemplateError
        from wherry.cli.templates.functions import HEADER_FUNCTIONS

        try:
            return template.execute(_Titles(self, {}), HEADER_FUNCTIONS)
        except TemplateError as error:
            return error.output


class Row:
    """A line of a listing: `row[field]` is the API's, None where it has none."""

    def __init__(self, listing: Listing, item: Mapping[str, Any], truncates: bool = True) -> None:
        self.listing, self.item, self.truncates = listing, item, truncates

    def __getitem__(self, key: str) -> Any:
        return self.item.get(key)

    def __str__(self) -> str:
        """The whole row, as {{.}} shows it."""
        return f"{{{' '.join(str(self.field(name)) for name in self.listing.columns)}}}"

    def field(self, name: str, *arguments: str) -> Any:
        """What a column shows; {{.Label "name"}} is a field with an argument."""
        if arguments:
            return (self["Labels"] or {}).get(arguments[0], "")
        shown = self.listing.columns[name][1]
        return str(self[shown] or "") if isinstance(shown, str) else shown(self)

    def id(self, key: str = "Id") -> str:
        identity = str(self[key] or "")
        return short_id(identity) if self.truncates else identity

    def labels(self) -> str:
        return ",".join(sorted(f"{key}={value}" for key, value in (self["Labels"] or {}).items()))


class _Titles(Row):
    """The first line of a table: instead of its fields, the titles of their columns."""

    def field(self, name: str, *arguments: str) -> str:
        if arguments:
            return arguments[0].rpartition(".")[2].replace("-", " ").replace("_", " ")
        return self.listing.columns[name][0]


def chosen_format(session: Session, options: Options, setting: str, *, name: str = "ID", raw: str = "") -> str:
    """What --format, docker's configuration and --quiet choose. `name` is what is shown alone, `raw` the old format."""
    quiet, alone = options["quiet"], f"{{{{.{name}}}}}"
    format = options["format"] or ("" if quiet else str(session.config.get(setting) or "")) or TABLE
    if format == RAW and raw:
        return next(line for line in raw.split("\n") if alone in line) if quiet else raw
    return alone if quiet and format == TABLE else format


def template_of(format: str, name: str = "", failure: str = "template parsing error") -> Template:
    """The template of a --format for one thing. Raises CommandError when it cannot be parsed."""
    from wherry.cli.session import CommandError
    from wherry.cli.templates import TemplateError, parse

    try:
        return parse("{{json .}}" if format == JSON else format, name)
    except TemplateError as error:
        raise CommandError(f"{failure}: {error}", TEMPLATE_ERROR) from None


def executed(template: Template, value: Any) -> str:
    """The template over the API's JSON; where it does not fit, what it wrote until then is shown: CommandError."""
    from wherry.cli.session import CommandError
    from wherry.cli.templates import TemplateError
    from wherry.cli.templates.values import shaped

    try:
        return template.execute(shaped(value))
    except TemplateError as error:
        print(error.output, flush=True)
        raise CommandError(str(error)) from None


def table(text: str, min_width: int = MIN_WIDTH, padding: int = PADDING) -> str:
    """Tab-separated text in columns. A column is as wide as its widest cell in lines that follow one another."""
    lines = [line.split("\t") for line in text.split("\n")]
    widths = [[_width(cell) for cell in line] for line in lines]
    # The last cell of a line is the text behind its last tab, and belongs to no column.
    for column in range(max(len(line) for line in lines) - 1):
        start = 0
        while start < len(lines):
            end = start
            while end < len(lines) and len(lines[end]) - 1 > column:
                end += 1
            if end > start:
                widest = max(min_width, max(widths[at][column] for at in range(start, end)) + padding)
                for at in range(start, end):
                    lines[at][column] += " " * (widest - widths[at][column])
            start = end + 1
    return "\n".join("".join(line) for line in lines)


def _width(text: str) -> int:
    """How many places a text takes on a terminal."""
    # Nearly all that is not ASCII is the … of what was cut, for which no table of characters needs to be loaded.
    if text.replace("…", ".").isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def ellipsis(text: str, width: int) -> str:
    """Text of at most that many places, the last of them … where something was cut off."""
    if _width(text) <= width:
        return text
    room = width - 1
    shown = []
    for character in text:
        room -= _width(character)
        if room < 0:
            break
        shown.append(character)
    return "".join(shown) + "…"


def short_id(identity: str) -> str:
    """The twelve digits that are enough to tell an id from others."""
    return identity[identity.find(":") + 1 :][:12]


def since(moment: int) -> str:
    """How long ago a moment (seconds of Unix time) was."""
    return times.human_duration(time.time() - moment) + " ago"


def local_time(moment: int) -> str:
    """A moment in this machine's zone, as Go prints a time: 2006-01-02 15:04:05 -0700 MST."""
    local = time.localtime(moment)
    return f"{local.tm_year:04}" + time.strftime("-%m-%d %H:%M:%S %z %Z", local)


def rfc3339(moment: int, nanoseconds: int | None = None) -> str:
    """A moment in this machine's zone: 2006-01-02T15:04:05Z, with nine digits of fraction when those are given."""
    local = time.localtime(moment)
    fraction = "" if nanoseconds is None else f".{nanoseconds:09d}"
    zone = time.strftime("%z", local)
    offset = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + fraction + offset
