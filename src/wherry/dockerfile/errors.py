"""Where something stands in a Dockerfile, and what is wrong with it."""

from collections.abc import Iterable

from msgspec import Struct

from wherry.model.errors import InvalidParameter

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
