"""The patterns of ``${x#p}``, ``${x%p}`` and ``${x/p/r}``: ``*``, ``?`` and a backslash before either.

A pattern is cut at its stars into pieces that are looked for one after the other. Taking the first place where a piece
fits never loses a match, so the work is linear in the text, whatever the pattern.
"""

from wherry.dockerfile.errors import DockerfileError

_ANY = ""
_Piece = tuple[str, ...]  # characters; _ANY for a "?"


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

    def _match_at(self, text: str, at: int, pieces: list[_Piece], *, longest: bool) -> int | None:
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


def _pieces(pattern: str) -> list[_Piece]:
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


def _fits(text: str, piece: _Piece, at: int) -> bool:
    if len(text) - at < len(piece):
        return False
    return all(char in (_ANY, text[at + offset]) for offset, char in enumerate(piece))


def _find(text: str, piece: _Piece, start: int) -> int | None:
    if _ANY not in piece:
        at = text.find("".join(piece), start)
        return None if at < 0 else at
    return next((at for at in range(start, len(text) - len(piece) + 1) if _fits(text, piece, at)), None)


def _find_last(text: str, piece: _Piece, start: int) -> int | None:
    if _ANY not in piece:
        at = text.rfind("".join(piece), start)
        return None if at < 0 else at
    return next((at for at in range(len(text) - len(piece), start - 1, -1) if _fits(text, piece, at)), None)
