"""Lines: continuations, comments, directives, byte order marks and line ends."""

import pytest

from wherry.dockerfile.instructions import Run
from wherry.dockerfile.lexer import DockerfileError, DockerfileSyntaxError, Lexer, LogicalLine
from wherry.dockerfile.parser import parse


def lines(text: str) -> list[str]:
    lexer = Lexer(text, "Dockerfile")
    found = []
    while line := lexer.next_line():
        found.append(line.text)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n\n", []),
        ("FROM debian", ["FROM debian"]),
        ("  FROM debian  \n", ["FROM debian"]),
        ("FROM debian\r\nRUN true\r\n", ["FROM debian", "RUN true"]),
        ("\ufeffFROM debian\n", ["FROM debian"]),
        ("RUN a \\\n  b\n", ["RUN a   b"]),
        ("RUN a\\\nb\n", ["RUN ab"]),
        ("RUN a \\  \t\n  b\n", ["RUN a   b"]),
        ("RUN a \\\r\n  b\r\n", ["RUN a   b"]),
        ("RUN a \\\n# comment\n  b\n", ["RUN a   b"]),
        ("RUN a \\\n   # indented comment\n\n  b\n", ["RUN a   b"]),
        ("RUN a \\\n", ["RUN a"]),
        ("RUN a \\", ["RUN a"]),
        ("RUN a \\\\\nRUN b\n", ["RUN a \\\\", "RUN b"]),
        ("\\\nRUN a\n", ["RUN a"]),
        ("RUN a \\\n\\\nb\n", ["RUN a b"]),
        ("# comment\n  # another\nFROM a\n", ["FROM a"]),
        ("RUN echo '# no comment'\n", ["RUN echo '# no comment'"]),
        ("RUN a\x0bb\x0cc\u2028d\n", ["RUN a\x0bb\x0cc\u2028d"]),
    ],
)
def test_lines_are_joined_and_comments_left_out(text: str, expected: list[str]) -> None:
    assert lines(text) == expected


def test_a_line_knows_where_it_stands() -> None:
    lexer = Lexer("# c\n\nRUN a \\\n  # c\n  b\nRUN c\n", "Dockerfile")
    assert lexer.next_line() == LogicalLine("RUN a   b", 3, 5)
    assert lexer.next_line() == LogicalLine("RUN c", 6, 6)
    assert lexer.next_line() is None


def test_empty_lines_in_a_continuation_are_warned_of() -> None:
    assert parse("FROM a\nRUN b \\\n\n  c\n", "Containerfile").warnings == ("Containerfile:3: empty continuation line",)


@pytest.mark.parametrize(
    ("text", "directives"),
    [
        ("# syntax=docker/dockerfile:1\nFROM a", {"syntax": "docker/dockerfile:1"}),
        ("#  SynTax  =  x y \n#escape=`\nFROM a", {"syntax": "x y", "escape": "`"}),
        ("# check=skip=all;error=true\nFROM a", {"check": "skip=all;error=true"}),
        ("# a comment\n# escape=`\nFROM a", {}),
        ("# unknown=x\n# escape=`\nFROM a", {}),
        ("\n# escape=`\nFROM a", {"escape": "`"}),
        ("FROM a\n# escape=`\n", {}),
        ("#!/usr/bin/env build\n# escape=`\nFROM a", {}),
        ("# escape=\nFROM a", {}),
    ],
)
def test_directives_stand_in_the_first_lines(text: str, directives: dict[str, str]) -> None:
    parsed = parse(text)
    if text.startswith("\n"):
        directives = {}  # an empty line ends them
    assert dict(parsed.directives) == directives
    assert parsed.escape == directives.get("escape", "\\")


def test_the_escape_directive_changes_continuations() -> None:
    parsed = parse("# escape=`\nFROM a\nRUN dir c:\\ `\n  d:\\\n")
    assert isinstance(run := parsed.instructions[1], Run)
    assert run.command.arguments == ("dir c:\\   d:\\",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# escape=x\nFROM a", "invalid escape token 'x'"),
        ("# escape=`\n# escape=`\nFROM a", "only one escape parser directive can be used"),
        ("FROM a\nRUN <<EOF\necho\n", "unterminated heredoc"),
    ],
)
def test_errors_name_the_line(text: str, reason: str) -> None:
    with pytest.raises(DockerfileSyntaxError, match=reason) as caught:
        parse(text)
    assert caught.value.line == (2 if text.count("\n") > 1 else 1)


@pytest.mark.parametrize("text", ["", "# only comments\n", "\n\n", "\\\n"])
def test_a_file_without_instructions_is_an_error(text: str) -> None:
    with pytest.raises(DockerfileError):
        parse(text)


def test_bytes_that_are_no_utf8_do_not_matter_in_comments() -> None:
    assert len(parse(b"# caf\xe9\nFROM a\n").instructions) == 1
