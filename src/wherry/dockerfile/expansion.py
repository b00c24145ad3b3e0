"""Variables, quotes and escapes in one word of an instruction, as a shell has them and BuildKit does.

``$x`` and ``${x}``, and in braces:

=============  =====================================================================================
``${x:-w}``    ``w`` when x is unset or empty; ``${x-w}`` when it is unset
``${x:+w}``    ``w`` when x is set and not empty; ``${x+w}`` when it is set
``${x:?w}``    an error that says ``w`` when x is unset or empty; ``${x?w}`` when it is unset
``${x#p}``     without the shortest beginning that matches ``p``; ``${x##p}`` the longest
``${x%p}``     without the shortest end that matches ``p``; ``${x%%p}`` the longest
``${x/p/r}``   with the first match of ``p`` replaced by ``r``; ``${x//p/r}`` with all of them
=============  =====================================================================================

``w``, ``p`` and ``r`` may hold variables themselves. An unset variable is the empty string. Nothing is expanded between
single quotes. Every error names the variable.
"""

import re
from collections.abc import Mapping
from functools import cache

from wherry.common.values import SPACES
from wherry.dockerfile.lexer import DockerfileError

# The patterns of ``${x#p}``, ``${x%p}`` and ``${x/p/r}``: ``*``, ``?`` and a backslash before either.
#
# A pattern is cut at its stars into pieces that are looked for one after the other. Taking the first place where a
# piece fits never loses a match, so the work is linear in the text, whatever the pattern.

_ANY = ""
_shellpattern_Piece = tuple[str, ...]  # characters; _ANY for a "?"


class ShellPattern:
    """A compiled pattern. Raises DockerfileError for an escape of anything but ``*``, ``?``, ``\\``, ``/`` or ``}``."""

    def __init__(self, pattern: str) -> None:
        self._pieces = _pieces(pattern)

    def without_prefix(self, text: str, *, longest: bool) -> str:
        """``text`` without the shortest or longest beginning that matches."""
        end = self._match_at(text, 0, self._pieces, longest=longest)
        return text if end is None else text[end:]

    def without_suffix(self, text: str, *, longest: bool) -> str:
        """``text`` without the shortest or longest end that matches."""
        mirrored = [piece[::-1] for piece in reversed(self._pieces)]
        end = self._match_at(text[::-1], 0, mirrored, longest=longest)
        return text if end is None else text[: len(text) - end]

    def find(self, text: str, start: int = 0) -> tuple[int, int] | None:
        """Where the first match lies; of those that begin there, the longest."""
        at = _find(text, self._pieces[0], start)
        if at is None:
            return None
        end = self._match_at(text, at, self._pieces, longest=True)
        return None if end is None else (at, end)

    def _match_at(self, text: str, at: int, pieces: list[_shellpattern_Piece], *, longest: bool) -> int | None:
        first, *others = pieces
        if not _fits(text, first, at):
            return None
        end = at + len(first)
        for number, piece in enumerate(others, 1):
            find = _find_last if longest and number == len(others) else _find
            place = find(text, piece, end)
            if place is None:
                return None
            end = place + len(piece)
        return end


def _pieces(pattern: str) -> list[_shellpattern_Piece]:
    pieces: list[list[str]] = [[]]
    characters = iter(pattern)
    for char in characters:
        if char == "*":
            pieces.append([])
        elif char == "?":
            pieces[-1].append(_ANY)
        elif char == "\\":
            escaped = next(characters, "")
            if escaped not in ("*", "?", "\\", "/", "}"):
                raise DockerfileError(f"invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")
            pieces[-1].append(escaped)
        else:
            pieces[-1].append(char)
    return [tuple(piece) for piece in pieces]


def _fits(text: str, piece: _shellpattern_Piece, at: int) -> bool:
    if len(text) - at < len(piece):
        return False
    return all(char in (_ANY, text[at + offset]) for offset, char in enumerate(piece))


def _find(text: str, piece: _shellpattern_Piece, start: int) -> int | None:
    if _ANY not in piece:
        at = text.find("".join(piece), start)
        return None if at < 0 else at
    return next((at for at in range(start, len(text) - len(piece) + 1) if _fits(text, piece, at)), None)


def _find_last(text: str, piece: _shellpattern_Piece, start: int) -> int | None:
    if _ANY not in piece:
        at = text.rfind("".join(piece), start)
        return None if at < 0 else at
    return next((at for at in range(len(text) - len(piece), start - 1, -1) if _fits(text, piece, at)), None)


# A line of "ENV A=$A$A" doubles its length; thirty of them would fill the memory of the engine.
_LONGEST_RESULT = 16 << 20
_DEEPEST_NESTING = 50

_SPECIAL_PARAMETERS = frozenset("@*#?-$!")
_SPACE = frozenset(SPACES)
# A piece of the result, and whether spaces in it part words.
_Piece = tuple[str, bool]


def expand(word: str, variables: Mapping[str, str], *, escape: str = "\\", quotes: bool = True) -> str:
    """``word`` with its variables replaced and its quotes and escapes taken away.

    ``quotes=False`` leaves quotes alone, as in the text of a here-document.

    >>> expand("${greeting:-hello}, '$name'", {"name": "world"})
    'hello, $name'

    Raises DockerfileError, without a place: the caller knows it.
    """
    if not _needs_expansion(word, escape):
        return word
    scanner = _Scanner(word, variables, escape=escape, quotes=quotes)
    return "".join(text for text, _ in scanner.run())


def expand_words(word: str, variables: Mapping[str, str], *, escape: str = "\\") -> list[str]:
    """Like expand(), then parted at the spaces that are neither quoted nor escaped: one word becomes any number."""
    return _part(_Scanner(word, variables, escape=escape).run())


def split_raw(line: str) -> list[str]:
    """The words of a shell command, with quotes, escapes and variables as they are written.

    ``<<`` and a name after spaces stay one word. Raises DockerfileError where quotes or braces do not match.
    """
    return _part(_Scanner(line, {}, raw_quotes=True, raw_escapes=True, keep_unset=True).run())


def unquote(word: str, *, raw_quotes: bool = False) -> list[str]:
    """The words in ``word`` without escapes and quotes (with quotes: ``raw_quotes``), variables left as they are."""
    return _part(_Scanner(word, {}, raw_quotes=raw_quotes, keep_unset=True).run())


def _needs_expansion(word: str, escape: str) -> bool:
    return "$" in word or "'" in word or '"' in word or escape in word


@cache
def _specials(characters: str) -> re.Pattern[str]:
    return re.compile(f"[{re.escape(characters)}]")


def _part(pieces: list[_Piece]) -> list[str]:
    words: list[str] = []
    word: list[str] = []
    for text, parts in pieces:
        if not parts:
            word.append(text)
            continue
        start = 0
        for at, char in enumerate(text):
            if char in _SPACE:
                word.append(text[start:at])
                words.append("".join(word))
                word, start = [], at + 1
        word.append(text[start:])
    words.append("".join(word))
    return [found for found in words if found]


class _Scanner:
    """One pass over a word. ``keep_unset`` writes unset variables as they were instead of dropping them."""

    def __init__(
        self,
        text: str,
        variables: Mapping[str, str],
        *,
        escape: str = "\\",
        quotes: bool = True,
        raw_quotes: bool = False,
        raw_escapes: bool = False,
        keep_unset: bool = False,
    ) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._raw_quotes = raw_quotes
        self._raw_escapes = raw_escapes
        self._keep_unset = keep_unset
        self._plain_until = "$<" + escape + ("'\"" if quotes else "")
        self._at = 0
        self._depth = 0
        self._length = len(text)

    def run(self) -> list[_Piece]:
        try:
            return self._scan("", self._raw_escapes)
        except DockerfileError as error:
            shown = self._text if len(self._text) <= 200 else f"{self._text[:200]}…"
            raise DockerfileError(f'failed to process "{shown}": {error.reason}') from None

    def _scan(self, stop: str, raw: bool, missing: str = "") -> list[_Piece]:
        """Up to ``stop``, which is taken, or to the end. ``missing`` is the error when ``stop`` does not come."""
        pieces: list[_Piece] = []
        specials = _specials(self._plain_until + stop)
        while self._at < len(self._text):
            match = specials.search(self._text, self._at)
            end = match.start() if match else len(self._text)
            if end > self._at:
                pieces.append((self._text[self._at : end], True))
                self._at = end
                continue
            char = self._text[self._at]
            if char == stop:
                self._at += 1
                return pieces
            if char == "$":
                pieces.append((self._variable(raw), True))
            elif char == "<":
                pieces.append((self._here_document(), False))
            elif char == "'" and char in self._plain_until:
                pieces.append((self._single_quoted(), False))
            elif char == '"' and char in self._plain_until:
                pieces.append((self._double_quoted(raw), False))
            else:
                escaped = self._text[self._at + 1 : self._at + 2]
                self._at += 2
                pieces.append((char + escaped if raw else escaped, False))
        if stop:
            raise DockerfileError(missing)
        return pieces

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _here_document(self) -> str:
        """``<`` alone, or ``<<`` with the blanks behind it, which do not part it from its name."""
        start = self._at
        self._at += 1
        if self._peek() == "<":
            self._at += 1
            while self._peek() in ("\t", "\r", " "):
                self._at += 1
        return self._text[start : self._at]

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise DockerfileError("unexpected end of statement while looking for matching single-quote")
        text = self._text[self._at : end + 1]
        self._at = end + 1
        return text if self._raw_quotes else text[1:-1]

    def _double_quoted(self, raw: bool) -> str:
        parts: list[str] = ['"'] if self._raw_quotes else []
        specials = _specials('$"' + self._escape)
        self._at += 1
        while match := specials.search(self._text, self._at):
            parts.append(self._text[self._at : match.start()])
            self._at = match.start()
            char = match[0]
            if char == '"':
                self._at += 1
                if self._raw_quotes:
                    parts.append('"')
                return "".join(parts)
            if char == "$":
                parts.append(self._variable(raw))
                continue
            # Only these can be escaped here; before anything else the escape character stands for itself.
            self._at += 1
            escaped = self._peek()
            if escaped in ('"', "$", self._escape) and escaped:
                self._at += 1
                parts.append(char + escaped if raw else escaped)
            else:
                parts.append(char + char if raw else char)
        raise DockerfileError("unexpected end of statement while looking for matching double-quote")

    def _name(self) -> str:
        """A name, a positional parameter's number, or one special parameter; empty when there is none."""
        start = self._at
        first = self._peek()
        if first.isdecimal():
            while self._peek().isdecimal():
                self._at += 1
        elif first in _SPECIAL_PARAMETERS:
            self._at += 1
        else:
            while (char := self._peek()) and (char == "_" or char.isalpha() or char.isdecimal()):
                self._at += 1
        return self._text[start : self._at]

    def _count(self, value: str) -> str:
        self._length += len(value)
        if self._length > _LONGEST_RESULT:
            raise DockerfileError(f"the result is longer than {_LONGEST_RESULT >> 20} MiB")
        return value

    def _variable(self, raw: bool) -> str:
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._variables.get(name)
            if value is None:
                return f"${name}" if self._keep_unset else ""
            return self._count(value)
        self._at += 1
        self._depth += 1
        if self._depth > _DEEPEST_NESTING:
            raise DockerfileError(f"variables are nested more than {_DEEPEST_NESTING} deep")
        value = self._in_braces()
        self._depth -= 1
        return self._count(value)

    def _in_braces(self) -> str:
        if self._peek() in ("{", "}", ":"):
            raise DockerfileError("syntax error: bad substitution: expected a variable's name after ${")
        name = self._name()
        modifier = self._peek()
        self._at += 1
        if modifier == "}" and name:
            value = self._variables.get(name)
            if value is None:
                return f"${{{name}}}" if self._keep_unset else ""
            return value
        if not modifier:
            raise DockerfileError(f"syntax error: missing '}}' after ${{{name}")
        if modifier == ":":
            modifier += self._peek()
            self._at += 1
        if not name or modifier not in (":-", "-", ":+", "+", ":?", "?", "#", "%", "/"):
            raise DockerfileError(f"unsupported modifier ({modifier}) in substitution of ${{{name}")
        if modifier == "/":
            return self._replace(name)
        word = self._operand("}", name, raw=modifier in "#%")
        return self._modify(name, modifier, word)

    def _operand(self, stop: str, name: str, *, raw: bool) -> str:
        missing = f"syntax error: missing '{stop}' in the substitution of ${{{name}"
        return self._count("".join(text for text, _ in self._scan(stop, raw, missing)))

    def _modify(self, name: str, modifier: str, word: str) -> str:
        value = self._variables.get(name)
        if value is None and self._keep_unset:
            return f"${{{name}{modifier}{word}}}"
        operation = modifier[-1]
        unset = value is None or (modifier[0] == ":" and not value)
        if operation == "-":
            return word if unset or value is None else value
        if operation == "+":
            return "" if unset else word
        if operation == "?":
            if unset or value is None:
                state = "unset" if value is None else "empty"
                raise DockerfileError(f"{name}: {word or f'is not allowed to be {state}'}")
            return value
        longest = word.startswith(operation)
        pattern = self._pattern(name, word.removeprefix(operation))
        if operation == "#":
            return pattern.without_prefix(value or "", longest=longest)
        return pattern.without_suffix(value or "", longest=longest)

    def _pattern(self, name: str, pattern: str) -> ShellPattern:
        try:
            return ShellPattern(pattern)
        except DockerfileError as error:
            raise DockerfileError(f"{name}: {error.reason}") from None

    def _replace(self, name: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self._at += 1
        pattern = self._operand("/", name, raw=True)
        replacement = self._operand("}", name, raw=True)
        value = self._variables.get(name)
        if value is None and self._keep_unset:
            return f"${{{name}/{'/' if everywhere else ''}{pattern}/{replacement}}}"
        compiled = self._pattern(name, pattern)
        return self._replace_in(value or "", compiled, replacement, everywhere=everywhere)

    def _replace_in(self, value: str, pattern: ShellPattern, replacement: str, *, everywhere: bool) -> str:
        parts: list[str] = []
        at = 0
        while found := pattern.find(value, at):
            start, end = found
            parts += (value[at:start], self._count(replacement))
            at = end
            if not everywhere or (at >= len(value) and end > start):
                break
            if end == start:
                # Nothing matches nothing, before each character and at the end.
                parts.append(value[at : at + 1])
                at += 1
                if at > len(value):
                    break
        return "".join([*parts, value[at:]])
