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
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            pattern = line.strip()
            if pattern and not line.startswith("#"):
                self._rules.append(_compile(pattern, number))

    def leave_out(self, path: str) -> bool:
        for negated, expression in reversed(self._rules):
            if expression.match(path):
                return not negated
        return False

    def leave_out_all(self, directory: str) -> bool:
        """Whether nothing in the directory can be wanted, either."""
        for number in range(len(self._rules) - 1, -1, -1):
            negated, expression = self._rules[number]
            if expression.match(directory):
                return not negated and not any(taken_back for taken_back, _ in self._rules[number + 1 :])
        return False


def _compile(pattern: str, line: int) -> tuple[bool, re.Pattern[str]]:
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
        return negated, re.compile("".join(parts) + r"(?:/|\Z)", re.DOTALL)
    except re.error as error:
        raise ValueError(f"line {line}: {pattern}: {error}") from None
