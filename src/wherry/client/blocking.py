"""Coroutines as plain functions: the face of a class for programs without an event loop, the command line first.

The face of `AsyncThing` is `Thing`: what the one awaits, the other's methods return; its asynchronous iterators are
iterators, its asynchronous context a context. What is seen of it by type checkers is generated from the same source
(scripts/blocking_stubs.py), and a test compares.
"""

from __future__ import annotations

from wherry.client import client, transport
from wherry.client.loops import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_FACES: dict[type, type] = {}
_NAMES = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__anext__": "__next__"}


class Face:
    """`_core` is what does it."""

    __slots__ = ("_core",)
    _core: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return plain(getattr(self._core, name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Face) and bool(self._core == other._core)

    def __hash__(self) -> int:
        return hash(self._core)

    def __repr__(self) -> str:
        return repr(self._core).replace("<Async", "<", 1)


def face(core: type) -> type:
    """The face of a class whose name begins with Async; made once."""
    if core in _FACES:
        return _FACES[core]
    members: dict[str, Any] = {"__slots__": (), "__doc__": core.__doc__, "__module__": core.__module__}
    for base in reversed(core.__mro__[:-1]):
        for key, member in vars(base).items():
            if key == "__init__":
                members[key] = _constructor(core)
            elif key == "__aiter__":
                members["__iter__"] = _iterated
            elif key in _NAMES:
                members[_NAMES[key]] = _method(member, _NAMES[key])
            elif key.startswith("_"):
                continue
            elif isinstance(member, property):
                members[key] = property(_method(member.fget, key), doc=member.__doc__)
            elif callable(member):
                members[key] = _method(member, key)
    made = type(core.__name__.removeprefix("Async"), (Face,), members)
    _FACES[core] = made
    return made


def _constructor(core: type) -> Callable[..., None]:
    def construct(self: Face, *arguments: Any, **more: Any) -> None:
        self._core = core(*map(_core, arguments), **more)

    return construct


def _method(function: Any, name: str) -> Callable[..., Any]:
    def method(self: Face, *arguments: Any, **more: Any) -> Any:
        return plain(function(self._core, *map(_core, arguments), **more))

    method.__name__, method.__doc__ = name, function.__doc__
    method.__wrapped__ = function  # type: ignore[attr-defined]  # for help() and inspect.signature
    return method


def _iterated(self: Face) -> Iterator[Any]:
    return _iterate(self._core.__aiter__())


def plain(value: Any) -> Any:
    """What a program without an event loop is given for what a coroutine's class gives."""
    kind = type(value)
    if _has_face(kind):
        made: Any = object.__new__(face(kind))
        made._core = value
        return made
    if kind is list:
        return [plain(each) for each in value] if value and _has_face(type(value[0])) else value
    if kind is tuple:
        return tuple(map(plain, value))
    if hasattr(value, "send") and hasattr(value, "cr_frame"):
        try:
            return plain(run(value))
        except StopAsyncIteration:
            raise StopIteration from None
    if hasattr(value, "__anext__"):
        return _iterate(value)
    return value


def _core(value: Any) -> Any:
    return value._core if isinstance(value, Face) else value


def _has_face(kind: type) -> bool:
    return kind in _FACES or (kind.__name__.startswith("Async") and kind.__module__.startswith("wherry."))


def _iterate(values: Any) -> Iterator[Any]:
    try:
        while True:
            try:
                value = run(values.__anext__())
            except StopAsyncIteration:
                return
            yield plain(value)
    finally:
        close = getattr(values, "aclose", None)
        if close is not None:
            run(close())


Response = face(transport.AsyncResponse)
Pending = face(client.AsyncPending)
Client = face(client.AsyncClient)
