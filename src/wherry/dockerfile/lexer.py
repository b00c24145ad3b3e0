"""Text to logical lines: continuations, comments, parser directives, and the bodies of here-documents.

A Dockerfile is read from top to bottom, once. A line that ends with the escape character goes on in the next one;
comments and blank lines in between are left out. The first lines may be directives (``# escape=```), which end at
the first line that is none. A here-document's body is read as it is, by whoever has found its ``<<`` in a line.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from wherry.common.errors import InvalidParameter
from wherry.common.values import SPACES

# Where something stands in a Dockerfile, and what is wrong with it.

# An instruction can carry a here-document of any length; an error shows its beginning.
_SHOWN_LINES = 6
_SHOWN_COLUMNS = 200


class Position(Struct, frozen=True):
    """The lines of a file that an instruction takes up, counted from 1.

    ``text`` is those lines as they are written, ``code`` the instruction joined into one line. An empty ``file``
    means that there is no file to speak of (``commit --change``), and that errors show no excerpt.
    """

    file: str = ""
    line: int = 0
    end: int = 0
    text: str = ""
    code: str = ""

    def excerpt(self) -> str:
        """The file's name and the lines, numbered: what an error shows below its message."""
        lines = self.text.split("\n")
        width = len(str(self.line + min(len(lines), _SHOWN_LINES) - 1))
        numbered = enumerate(lines[:_SHOWN_LINES], self.line)
        shown = [f"  {number:>{width}} | {printable(line.rstrip(), _SHOWN_COLUMNS)}" for number, line in numbered]
        if len(lines) > _SHOWN_LINES:
            shown.append(f"  {'':>{width}} | …")
        return "\n".join([f"{self.file}:{self.line}:", *shown])


NOWHERE = Position()


class DockerfileError(InvalidParameter):
    """What is wrong (``reason``), and where: ``file``, ``line``, and the lines themselves as ``text``.

    The message is the reason, with the place below it when there is one::

        target stage "biuld" could not be found (did you mean build?)
    """

    def __init__(self, reason: str, position: Position = NOWHERE) -> None:
        self.reason = reason
        self.position = position
        super().__init__(f"{self._headline()}\n{position.excerpt()}" if position.file else reason)

    def _headline(self) -> str:
        return self.reason

    @property
    def file(self) -> str:
        return self.position.file

    @property
    def line(self) -> int:
        return self.position.line

    @property
    def text(self) -> str:
        return self.position.text

    def at(self, position: Position) -> "DockerfileError":
        """The same error with its place, unless it knows a place already."""
        return self if self.position is not NOWHERE else type(self)(self.reason, position)


class DockerfileSyntaxError(DockerfileError):
    """The text is no Dockerfile. The first line reads as Docker's does, since people's tools look for it::

    dockerfile parse error on line 2: unknown instruction: FORM (did you mean FROM?)
    Dockerfile:2:
      2 | FORM debian
    """

    def _headline(self) -> str:
        return f"dockerfile parse error on line {self.position.line}: {self.reason}"


def printable(text: str, longest: int) -> str:
    """What a terminal can be shown of a text that may be anything."""
    cut = text if len(text) <= longest else f"{text[:longest]}…"
    return cut if cut.isprintable() else "".join(char if char.isprintable() or char == "\t" else "�" for char in cut)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The nearest known name as the end of an error's sentence, or nothing: `` (did you mean FROM?)``."""
    from difflib import get_close_matches  # only an error needs it, and the engine's start is counted in milliseconds

    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near and near[0] != word else ""


_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)\s*=(.*)", re.DOTALL)
_DIRECTIVES = frozenset({"syntax", "escape", "check"})


def without_surrogates(text: str) -> str:
    """Halves of surrogate pairs, which a Python text and JSON can hold and UTF-8 cannot, become U+FFFD."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class LogicalLine(Struct, frozen=True):
    """One instruction's line with its continuations joined, and the numbers of the lines that it came from."""

    text: str
    start: int
    end: int


class Lexer:
    """Reads logical lines off a text. ``escape``, ``directives`` and ``warnings`` fill up on the way."""

    def __init__(self, text: str | bytes, file: str) -> None:
        self.escape = "\\"
        self.directives: dict[str, str] = {}
        self.warnings: list[str] = []
        self._file = file
        # What is no UTF-8 (in a comment, say) does not stop a build: it becomes U+FFFD.
        decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else without_surrogates(text)
        self._lines = decoded.removeprefix("\ufeff").split("\n")
        if self._lines[-1] == "":
            self._lines.pop()
        self._at = 0
        self._in_directives = True

    def next_line(self) -> LogicalLine | None:
        """The next instruction's line, or None at the end of the text."""
        while self._at < len(self._lines):
            line = self._take().rstrip("\r").lstrip(SPACES)
            if line.startswith("#"):
                self._read_directive(line)
                continue
            self._in_directives = False
            if line:
                return self._join(line)
        return None

    def heredoc_body(self, name: str, *, strip_tabs: bool, start: int) -> str:
        """The lines up to one that is ``name`` alone, their newlines included.

        ``strip_tabs`` lets tabs stand before the name (``<<-``); the body keeps its tabs. ``start`` is the line of
        the instruction, for the error when the end is missing.
        """
        body: list[str] = []
        while self._at < len(self._lines):
            line = self._take()
            bare = line.rstrip("\r")
            if (bare.lstrip("\t") if strip_tabs else bare) == name:
                return "".join(body)
            body.append(f"{line}\n")
        reason = f"unterminated heredoc: expected a line that is {name} alone before the end of the file"
        raise DockerfileSyntaxError(reason, self.position(start, start))

    def position(self, start: int, end: int | None = None, code: str = "") -> Position:
        """Lines ``start`` to ``end`` (default: all that has been read since) as a place for errors."""
        end = self._at if end is None else end
        return Position(self._file, start, end, "\n".join(self._lines[start - 1 : end]), code)

    def _take(self) -> str:
        self._at += 1
        return self._lines[self._at - 1]

    def _join(self, line: str) -> LogicalLine:
        start = self._at
        parts: list[str] = []
        line, goes_on = self._split_continuation(line)
        parts.append(line)
        while goes_on and self._at < len(self._lines):
            line = self._take().rstrip("\r")
            content = line.lstrip(SPACES)
            if content.startswith("#"):
                continue
            if not content:
                self.warnings.append(f"{self._file}:{self._at}: empty continuation line")
                continue
            line, goes_on = self._split_continuation(line)
            parts.append(line)
        return LogicalLine("".join(parts).strip(SPACES), start, self._at)

    def _split_continuation(self, line: str) -> tuple[str, bool]:
        """Without its escape character at the end, if that is one: two of them are an escaped one."""
        bare = line.rstrip(" \t")
        if not bare.endswith(self.escape) or bare[-2:-1] == self.escape:
            return line, False
        return bare[:-1], True

    def _read_directive(self, comment: str) -> None:
        if not self._in_directives:
            return
        match = _DIRECTIVE.match(comment[1:].lstrip(SPACES))
        value = match[2].strip(SPACES) if match else ""
        name = match[1].lower() if match and value else ""
        if name not in _DIRECTIVES:
            self._in_directives = False
            return
        if name in self.directives:
            raise DockerfileSyntaxError(f"only one {name} parser directive can be used", self.position(self._at))
        self.directives[name] = value
        if name == "escape":
            if value not in ("\\", "`"):
                reason = f"invalid escape token '{value}': expected ` or \\"
                raise DockerfileSyntaxError(reason, self.position(self._at))
            self.escape = value


# Paths as texts.
