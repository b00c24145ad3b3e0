"""The keys that leave a container without ending it: ctrl-p ctrl-q unless the client says otherwise."""

from wherry.model.errors import InvalidParameter

DEFAULT = b"\x10\x11"

_CODES = {f"ctrl-{chr(code + 0x60)}": code for code in range(1, 27)} | {
    "ctrl-@": 0,
    "ctrl-[": 27,
    "ctrl-\\": 28,
    "ctrl-]": 29,
    "ctrl-^": 30,
    "ctrl-_": 31,
    "DEL": 127,
}


def parse_keys(text: str) -> bytes:
    """The bytes of "ctrl-p,ctrl-q" or "a,b"; DEFAULT for "". Raises InvalidParameter.

    >>> parse_keys("ctrl-a,x")
    b'\\x01x'
    """
    if not text:
        return DEFAULT
    codes = bytearray()
    for key in text.split(","):
        if len(key) == 1 and key.isascii():
            codes += key.encode()
        elif key in _CODES:
            codes.append(_CODES[key])
        else:
            raise InvalidParameter(f"Invalid detach keys ({text}) provided")
    return bytes(codes)


class DetachDetector:
    """Finds the sequence in what a user types, also when it comes in several pieces.

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
