"""The keys that leave a container without ending it: ctrl-p ctrl-q unless somebody has chosen others.

The engine looks for them in what a client sends, and the CLI in what its user types.
"""

DEFAULT = b"\x10\x11"

_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"


def parse_keys(text: str) -> bytes:
    """The bytes of "ctrl-p,ctrl-q" or "a,DEL"; DEFAULT for "". Raises ValueError for a key that is not known.

    >>> parse_keys("ctrl-a,x")
    b'\\x01x'
    """
    return bytes(map(_code, text.split(","))) if text else DEFAULT


def _code(key: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    if key.startswith("ctrl-") and len(key) == 6 and key[5] in _CONTROL:
        return _CONTROL.index(key[5])
    if key == "DEL":
        return 127
    raise ValueError(f"Unknown character: '{key}'")


class DetachDetector:
    """Finds the sequence in what a user types, also when it comes in several pieces, or begins anew within itself.

    The keys of a sequence that has only begun are held back, and passed on once it is clear that it is another.
    ``complete`` once all of it has come; nothing that follows is passed on.
    """

    def __init__(self, keys: bytes) -> None:
        self.complete = False
        self._keys = keys
        self._held = 0  # how many bytes of the sequence have come and were not passed on

    def feed(self, data: bytes) -> bytes:
        """What is to be passed on of ``data``, and of what was held back before it."""
        keys = self._keys
        if self.complete:
            return b""
        data = keys[: self._held] + data
        at = data.find(keys)
        if at >= 0:
            self.complete = True
            return data[:at]
        self._held = next(size for size in range(min(len(keys) - 1, len(data)), -1, -1) if data.endswith(keys[:size]))
        return data[: len(data) - self._held]
