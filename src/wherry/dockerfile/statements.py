"""Logical lines to statements: keyword, flags, arguments and here-documents, whatever they mean."""

import json
import re
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from wherry.common.values import SPACES
from wherry.dockerfile.instructions import HereDocument, find_starts
from wherry.dockerfile.lexer import (
    DockerfileError,
    DockerfileSyntaxError,
    Lexer,
    LogicalLine,
    Position,
    without_surrogates,
)

# One logical line into its parts: keyword, flags, words, and the exec form's JSON array.

# What parts the words of an instruction that knows no quotes. Narrower than SPACES, which file names may contain.
BLANKS = "\t\v\f\r "
_BLANKS = re.compile(f"[{BLANKS}]+")
_SPACES = re.compile(f"[{SPACES}]+")
_SPACE = frozenset(SPACES)


def split_keyword(line: str) -> tuple[str, str]:
    """The instruction's name as it is written, and what follows."""
    keyword, rest = split_first(line.strip(SPACES))
    return keyword, rest.strip(SPACES)


def split_first(text: str, spaces: str = BLANKS) -> tuple[str, str]:
    """The first word and what follows the spaces behind it: "" for nothing."""
    word, *rest = re.split(f"[{spaces}]", text, maxsplit=1)
    return word, rest[0].lstrip(spaces) if rest else ""


def split_spaces(text: str) -> list[str]:
    """Words parted by any kind of space."""
    return [word for word in _SPACES.split(text) if word]


def split_blanks(text: str) -> list[str]:
    """Words parted by blanks alone: quotes and escapes are left as they are, and part nothing."""
    return _BLANKS.split(text) if text else []


class _Word(Struct):
    characters: list[str] = []
    quote: str = ""


def split_flags(text: str, escape: str) -> tuple[list[str], str]:
    """The ``--flags`` that ``text`` begins with, free of quotes and escapes, and the rest. A bare ``--`` ends them."""
    flags: list[str] = []
    word: _Word | None = None
    at = 0
    while at < len(text):
        char = text[at]
        if word is None:
            if char in _SPACE:
                at += 1
                continue
            if not text.startswith("--", at):
                return flags, text[at:].strip(SPACES)
            word = _Word()
        if not word.quote and char in _SPACE:
            if word.characters == ["-", "-"]:
                return flags, text[at:].strip(SPACES)
            flags.append("".join(word.characters))
            word = None
        elif char == word.quote:
            word.quote = ""
        elif not word.quote and char in "'\"":
            word.quote = char
        elif char == escape:
            # The character after it counts as it is; at the end of the line it counts for nothing.
            at += 1
            word.characters.append(text[at : at + 1])
        else:
            word.characters.append(char)
        at += 1
    if word is not None and word.characters != ["-", "-"]:
        flags.append("".join(word.characters))
    return flags, ""


def split_quoted(text: str, escape: str) -> list[str]:
    """Words parted by spaces outside of quotes, with their quotes and escapes kept for the expansion to take away.

    Raises DockerfileError when a quote is not closed.
    """
    words: list[str] = []
    word: _Word | None = None
    at = 0
    while at < len(text):
        char = text[at]
        if word is None:
            if char in _SPACE:
                at += 1
                continue
            word = _Word()
        if not word.quote and char in _SPACE:
            words.append("".join(word.characters))
            word = None
        elif char == escape and word.quote != "'":
            if at + 1 < len(text):
                at += 1
                word.characters += (char, text[at])
        else:
            if char == word.quote:
                word.quote = ""
            elif not word.quote and char in "'\"":
                word.quote = char
            word.characters.append(char)
        at += 1
    if word is not None:
        if word.quote:
            raise DockerfileError(f"a quote is not closed: expected another {word.quote} before the end of the line")
        words.append("".join(word.characters))
    return [found for found in words if found]


class _NotJson(ValueError):
    pass


def _refuse_constant(name: str) -> str:
    raise _NotJson(name)


class _Number(str):
    """A number in its own spelling: converting a very long one is slow, and all of them are refused."""

    __slots__ = ()


def exec_form(text: str) -> list[str] | None:
    """The words of a JSON array, or None when ``text`` is none and so is in shell form, as Docker takes it.

    Raises DockerfileError when it is an array with anything but strings in it.
    """
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text, parse_constant=_refuse_constant, parse_int=_Number, parse_float=_Number)
    except (ValueError, RecursionError):
        return None
    if not all(type(word) is str for word in words):
        raise DockerfileError("when using JSON array syntax, arrays must be comprised of strings only")
    return [without_surrogates(word) for word in words]


_WITH_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})


class Statement(Struct, frozen=True):
    """One instruction's parts. ``keyword`` is in capitals, ``written`` as in the file; ``arguments`` is one text."""

    keyword: str
    written: str
    flags: tuple[str, ...]
    arguments: str
    heredocs: tuple[HereDocument, ...]
    escape: str
    position: Position


def read_statements(lexer: Lexer) -> Iterator[Statement]:
    """The statements of a text, in order. Raises DockerfileSyntaxError."""
    while line := lexer.next_line():
        yield _read_statement(lexer, line)


def inner_statement(statement: Statement) -> Statement:
    """The statement that ONBUILD's arguments are. It has ONBUILD's here-documents and position."""
    return _split(statement.arguments, statement.escape, statement.heredocs, statement.position)


def _read_statement(lexer: Lexer, line: LogicalLine) -> Statement:
    start = lexer.position(line.start, line.end, line.text)
    statement = _split(line.text, lexer.escape, (), start)
    try:
        starts = _starts(statement)
    except DockerfileError as error:
        raise DockerfileSyntaxError(error.reason, start) from None
    if not starts:
        return statement
    heredocs = tuple(
        replace(found, body=lexer.heredoc_body(found.name, strip_tabs=found.strip_tabs, start=line.start))
        for found in starts
    )
    return replace(statement, heredocs=heredocs, position=lexer.position(line.start, code=line.text))


def _split(text: str, escape: str, heredocs: tuple[HereDocument, ...], position: Position) -> Statement:
    written, rest = split_keyword(text)
    flags, arguments = split_flags(rest, escape)
    return Statement(written.upper(), written, tuple(flags), arguments, heredocs, escape, position)


def _starts(statement: Statement) -> list[HereDocument]:
    if "<<" not in statement.arguments:
        return []
    if statement.keyword == "ONBUILD":
        statement = inner_statement(statement)
    if statement.keyword not in _WITH_HEREDOCS or exec_form(statement.arguments) is not None:
        return []
    return find_starts(statement.arguments)
