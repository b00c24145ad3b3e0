"""`.dockerignore`, for a context that is sent to an engine on another machine; on this one the engine itself reads it.

The last pattern that matches a path, or a directory that it is in, decides; one with `!` takes the path back in.
"""

from __future__ import annotations

import posixpath
import re

_SPECIAL = re.compile(r"[*?\[\]\\]")


class Ignore:
    """The rules of one file. Paths are relative to the context, parted by slashes."""

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[bool, re.Pattern[str], re.Pattern[str]]] = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            pattern = line.strip()
            if pattern and not line.startswith("#"):
                self._rules.append(_compile(pattern, number))

    def leave_out(self, path: str) -> bool:
        for negated, expression, _ in reversed(self._rules):
            if expression.match(path):
                return not negated
        return False

    def leave_out_all(self, directory: str) -> bool:
        """Whether nothing in the directory can be wanted, either."""
        inside = f"{directory}/"
        for negated, expression, reach in reversed(self._rules):
            if expression.match(directory):
                return not negated
            if negated and reach.match(inside):
                return False
        return False


def _compile(pattern: str, line: int) -> tuple[bool, re.Pattern[str], re.Pattern[str]]:
    """Whether it takes paths back, what it matches, and the directories, with a slash behind, that may hold such."""
    negated = pattern.startswith("!")
    pattern = posixpath.normpath(pattern.removeprefix("!").strip()).lstrip("/")
    parts: list[str] = []
    at = 0
    if pattern.startswith("**") and not _SPECIAL.search(pattern, 2) and not pattern.startswith("**/"):
        parts.append("(?:[^/]*/)*[^/]*")  # "**.o" is any path that ends so, and "**.o*" names in any directory
        at = 2
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern[at : at + 1] == "*":
            at += 2 if pattern[at + 1 : at + 2] == "/" else 1
            parts.append("(?:[^/]*/)*" if at < len(pattern) else ".*")
        elif char == "*":
            parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "[" and (end := pattern.find("]", at + 1)) > 0:
            inside = pattern[at:end].replace("\\", "\\\\")
            parts.append(f"[^/{inside[1:]}]" if inside.startswith("^") else f"[{inside}]")
            at = end + 1
        elif char == "\\" and at < len(pattern):
            parts.append(re.escape(pattern[at]))
            at += 1
        else:
            parts.append(re.escape(char))
    try:
        return negated, re.compile("".join(parts) + r"(?:/|\Z)", re.DOTALL), _reach(pattern)
    except re.error as error:
        raise ValueError(f"line {line}: {pattern}: {error}") from None


def _reach(pattern: str) -> re.Pattern[str]:
    special = _SPECIAL.search(pattern)
    literal = pattern[: special.start()] if special else pattern
    found = [re.escape(literal[: slash.end()]) + r"\Z" for slash in re.finditer("/", literal)]
    return re.compile("|".join([*found, re.escape(literal) if special else "(?!)"]), re.DOTALL)
