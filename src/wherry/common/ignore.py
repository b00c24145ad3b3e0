"""``.dockerignore``: which paths of a context are left out.

The last pattern that matches a path, or a directory that it is in, decides; one that begins with ``!`` takes the path
back in. ``*`` and ``?`` stand for anything but a slash, ``[a-z]`` for one character, ``**`` for any directories.

All patterns in a row that say the same become one regular expression. Since a match of a directory is one of all that
is below it, the first place where a part of a pattern fits is as good as any later one, and no part is tried twice
(atomic groups): a pattern like ``**/a*a*/**/b`` costs no more than its length times that of the path.
"""

from __future__ import annotations

import re
from itertools import groupby, pairwise

from wherry.common.errors import InvalidParameter
from wherry.common.values import SPACES, clean_path, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A group of patterns, for those who cannot import this: whether it takes paths back, and regular expressions: of the
# paths, matched at their beginning, and of the directories, with a slash behind, that may hold such paths.
Rule = tuple[bool, str, str]

_STAR = "*"
_DIRECTORIES = "**"
_NOT_LITERAL = re.compile(r"[*?\[\]\\]")
_END = r"(?=/|\Z)"
_NOTHING = "(?!)"  # matches nothing
# "a**b" means both "ab" and "a…/b", so each of them in a pattern doubles it.
_MOST_INNER_STARS = 5


class InvalidPattern(InvalidParameter):
    """A line that is no pattern. ``line`` is its number, and stands in the message where there is a ``file``."""

    def __init__(self, reason: str, line: int, text: str, file: str) -> None:
        super().__init__(f"{reason}\n{file}:{line}:\n  {line} | {quoted(text[:200])[1:-1]}" if file else reason)
        self.line = line


class PatternMatcher:
    """Compiled patterns. Paths are relative to the context, parted by slashes: ``src/main.c``."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = list(rules)
        self._groups = [
            (negated, re.compile(text, re.DOTALL), re.compile(reach, re.DOTALL)) for negated, text, reach in self.rules
        ]

    @classmethod
    def of(cls, patterns: Iterable[str], file: str = "") -> PatternMatcher:
        """``patterns`` as in a .dockerignore, or of ``COPY --exclude``. Raises InvalidPattern."""
        numbered = enumerate(patterns, 1)
        return cls(_rules([found for number, line in numbered if (found := _Pattern.parse(line, file, number))]))

    @classmethod
    def parse(cls, text: str | bytes, file: str = ".dockerignore") -> PatternMatcher:
        """Reads a .dockerignore: a pattern a line, and comments. Raises InvalidPattern."""
        decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
        lines = decoded.removeprefix("\ufeff").split("\n")
        return cls.of(["" if line.startswith("#") else line for line in lines], file)

    def __bool__(self) -> bool:
        """Whether anything is left out at all."""
        return any(not negated for negated, _, _ in self.rules)

    def matches(self, path: str) -> bool:
        """Whether the path is left out."""
        for negated, expression, _ in reversed(self._groups):
            if expression.match(path):
                return not negated
        return False

    def matches_below(self, directory: str) -> bool:
        """Whether all in the directory is left out: then it need not be looked into."""
        inside = f"{directory}/"
        for negated, expression, reach in reversed(self._groups):
            if expression.match(directory):
                return not negated
            if negated and reach.match(inside):
                return False
        return False


class _Pattern:
    def __init__(self, text: str, negated: bool, place: tuple[int, str, str]) -> None:
        """``place``: the line's number, the line, the file."""
        self.text, self.negated, self.place = text, negated, place

    @classmethod
    def parse(cls, line: str, file: str, number: int) -> _Pattern | None:
        place = (number, line, file)
        text = line.strip(SPACES)
        if not text:
            return None
        negated = text.startswith("!")
        if negated:
            text = text[1:].strip(SPACES)
            if not text:
                raise InvalidPattern('illegal exclusion pattern: "!": expected a path after it', *place)
        return cls(clean_path(text).lstrip("/") or "/", negated, place)

    def reach(self) -> Iterator[str]:
        """The directories, with a slash behind, in which something may match though they themselves do not.

        As regular expressions: the directories that every match lies in, and all that begin as every match does.
        """
        match = _NOT_LITERAL.search(self.text)
        literal = self.text[: match.start()] if match else self.text
        yield from (re.escape(literal[: slash.end()]) + r"\Z" for slash in re.finditer("/", literal))
        if match:
            yield re.escape(literal)


def _rules(patterns: list[_Pattern]) -> Iterator[Rule]:
    for negated, found in groupby(patterns, key=lambda pattern: pattern.negated):
        members = tuple(found)
        expressions = [expression for pattern in members for expression in _expressions(pattern)]
        reach = [found for pattern in members for found in pattern.reach()] if negated else []
        yield negated, "|".join(expressions), "|".join(reach or [_NOTHING])


def _expressions(pattern: _Pattern) -> Iterator[str]:
    """The regular expressions of a pattern: one, but for ``**`` inside of a name."""
    # A second ** right behind the first says nothing new.
    found = [(token, before) for before, token in pairwise(["", *_tokens(pattern)])]
    tokens = [token for token, before in found if not (token == before == _DIRECTORIES)]
    leading = tokens[0] == _DIRECTORIES and len(tokens) > 1 and not pattern.text.startswith("**/")
    if leading and not _NOT_LITERAL.search(pattern.text[2:]):
        # Docker takes "**.o" for any path that ends so, but "**.o*" for names in any directory.
        tokens.insert(1, _STAR)
    inner = sum(_is_inner(tokens, at) for at in range(len(tokens)))
    if inner > _MOST_INNER_STARS:
        reason = f"too many ** inside of names: expected {_MOST_INNER_STARS} at most: {pattern.text}"
        raise InvalidPattern(reason, *pattern.place)
    for spelled in _without_inner(tokens):
        yield _expression(spelled)


def _tokens(pattern: _Pattern) -> Iterator[str]:
    """Stars as they are, and everything else as a regular expression for one character."""
    text, at = pattern.text, 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*":
            if text[at : at + 1] != "*":
                yield _STAR
                continue
            at += 1
            if text[at : at + 1] == "/":
                at += 1
            yield _DIRECTORIES
        elif char == "?":
            yield "[^/]"
        elif char == "[":
            expression, at = _character_class(pattern, at)
            yield expression
        elif char == "\\":
            if at == len(text):
                raise _bad(pattern, "expected a character after the last backslash")
            yield re.escape(text[at])
            at += 1
        else:
            yield re.escape(char)


def _character_class(pattern: _Pattern, at: int) -> tuple[str, int]:
    """The class whose ``[`` stands before ``at``, and where the pattern goes on."""
    text = pattern.text
    negated = text[at : at + 1] == "^"
    at += negated
    members: list[str] = []
    while not (text[at : at + 1] == "]" and members):
        first, at = _class_character(pattern, at)
        last = first
        if text[at : at + 1] == "-":
            last, at = _class_character(pattern, at + 1)
        if last < first:
            raise _bad(pattern, f"expected a range that rises, not {first}-{last}")
        members.append(f"{re.escape(first)}-{re.escape(last)}")
    return (f"[^/{''.join(members)}]" if negated else f"[{''.join(members)}]"), at + 1


def _class_character(pattern: _Pattern, at: int) -> tuple[str, int]:
    text = pattern.text
    if text[at : at + 1] == "\\":
        at += 1
    elif text[at : at + 1] in ("-", "]"):
        raise _bad(pattern, f"expected a backslash before a {text[at]} between brackets")
    if at >= len(text):
        raise _bad(pattern, "expected a ] at the end of what begins with [")
    return text[at], at + 1


def _bad(pattern: _Pattern, expected: str) -> InvalidPattern:
    return InvalidPattern(f"syntax error in pattern {pattern.text}: {expected}", *pattern.place)


def _is_inner(tokens: list[str], at: int) -> bool:
    """Whether this is a ``**`` that stands inside of a name, and so for nothing or for directories."""
    return tokens[at] == _DIRECTORIES and 0 < at < len(tokens) - 1 and tokens[at - 1] != "/"


def _without_inner(tokens: list[str]) -> Iterator[list[str]]:
    for at in range(len(tokens)):
        if _is_inner(tokens, at):
            yield from _without_inner(tokens[:at] + tokens[at + 1 :])
            yield from _without_inner([*tokens[:at], _STAR, "/", *tokens[at:]])
            return
    yield tokens


def _expression(tokens: list[str]) -> str:
    """A match of the path's beginning, up to the end of a name: the path itself or a directory that it is in.

    The parts between ``**`` each begin and end with a name, so each can be looked for after the one before it.
    """
    below = tokens[-1] == _DIRECTORIES  # "a/**": everything in a, but not a itself
    parts = [list(part) for stars, part in groupby(tokens, key=lambda token: token == _DIRECTORIES) if not stars]
    if not parts:
        return ""
    expressions = [_part(part, whole=number == len(parts) and not below) for number, part in enumerate(parts, 1)]
    anchored = "" if tokens[0] == _DIRECTORIES else expressions.pop(0)
    return anchored + "".join(f"(?>(?:[^/]*/)*?{expression})" for expression in expressions)


def _part(tokens: list[str], *, whole: bool) -> str:
    """Names and single stars. ``whole``: a name ends where the part does."""
    runs = [list(run) for stars, run in groupby(tokens, key=lambda token: token == _STAR) if not stars]
    literals = ["".join(run) for run in runs]
    if tokens[-1] == _STAR:
        literals.append("")
    expression = "" if tokens[0] == _STAR else literals.pop(0)
    if not literals:
        return expression + (_END if whole else "")
    *middle, last = literals
    expression += "".join(f"(?>[^/]*?{literal})" for literal in middle)
    return f"{expression}(?>[^/]*?{last}{_END if whole else ''})"
