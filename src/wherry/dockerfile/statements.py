"""Logical lines to statements: keyword, flags, arguments and here-documents, whatever they mean."""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from wherry.dockerfile.errors import DockerfileError, DockerfileSyntaxError, Position
from wherry.dockerfile.heredocs import HereDocument, find_starts
from wherry.dockerfile.lexer import Lexer, LogicalLine
from wherry.dockerfile.words import exec_form, split_flags, split_keyword

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
