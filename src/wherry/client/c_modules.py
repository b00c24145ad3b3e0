"""The standard library's C modules, without the Python wrappers around them.

`import socket, signal, json` loads enum, re, selectors and their like: 25 ms on a machine where a bare Python
starts in 18 ms and a whole `wherry run` is to take 40 (`python -X importtime` shows them). The C modules below
are what those wrappers stand on, in every CPython since 3.5. Where one is missing (another Python), the wrapper
itself is taken and only the time is lost. Only this module knows.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signals
    import socket as sockets
    from collections.abc import Callable
    from typing import Any
else:
    try:
        import _signal as signals
        import _socket as sockets
    except ImportError:
        import signal as signals
        import socket as sockets

__all__ = ["dumps", "loads", "signals", "sockets"]


class _Context:
    """What the C scanner asks about, with the answers that `json.loads` gives."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's cache of keys, shared on purpose

    @staticmethod
    def parse_constant(name: str) -> float:
        return float(name)


def _unencodable(value: object) -> object:
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _codec() -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    try:
        from _json import encode_basestring_ascii, make_encoder, make_scanner
    except ImportError:
        import json

        return json.dumps, json.loads

    encoder = make_encoder(None, _unencodable, encode_basestring_ascii, None, ":", ",", False, False, False)
    scanner = make_scanner(_Context)  # type: ignore[arg-type]  # typeshed has it as returning itself

    def encode(value: Any) -> str:
        return "".join(encoder(value, 0))

    def decode(text: str) -> Any:
        text = text.strip(" \t\r\n")
        try:
            value, end = scanner(text, 0)
        except StopIteration as error:
            raise ValueError(f"not JSON, at character {error.value}") from None
        except SystemError:  # the scanner's own error is json's, and it does not import that
            import json

            return json.loads(text)
        if end != len(text):
            raise ValueError(f"more than one JSON value, at character {end}")
        return value

    return encode, decode


_encode, _decode = _codec()


def dumps(value: Any) -> bytes:
    """A value of dicts, lists, strings, numbers, booleans and None as compact JSON."""
    return _encode(value).encode()


def loads(data: bytes | bytearray | str) -> Any:
    """The value of one JSON text. Raises ValueError when it is not one."""
    return _decode(data if isinstance(data, str) else data.decode("utf-8", "surrogateescape"))
