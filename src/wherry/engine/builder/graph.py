"""Graphs of build steps, as BuildKit's own library makes them (LLB): vertices whose inputs are outputs of others.

What is here was checked when it was read: every reference leads to a vertex before it, so there are no cycles.
"""

import posixpath
from typing import Any

import msgspec

from wherry.dockerfile.instructions import Mount
from wherry.engine.builder.request import Limits


class Edge(msgspec.Struct, frozen=True):
    """An output of a vertex, which is known by its place in the graph."""

    vertex: int
    output: int = 0


def clean(path: str) -> str:
    """Absolute; ".." leads no higher than the root."""
    return posixpath.normpath("/" + path.lstrip("/"))


NOTHING = -1  # in place of an input: no files at all; in place of an output: none


class Source(msgspec.Struct, frozen=True):
    """Files from outside: ``scheme`` is "docker-image", "local", "git", "https" and so on."""

    scheme: str
    rest: str
    attributes: dict[str, str] = {}
    platform: str = ""


class Bind(msgspec.Struct, frozen=True):
    """An input that an Exec has mounted; ``output`` is that of what it is after, ``selector`` a path in it."""

    target: str
    input: int
    output: int = NOTHING
    selector: str = ""
    read_only: bool = False


class Exec(msgspec.Struct, frozen=True):
    """A command. Of ``binds`` the one at "/" is the root; ``mounts`` are those that leave nothing."""

    words: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str
    user: str
    binds: tuple[Bind, ...]
    mounts: tuple[Mount, ...] = ()
    network: str = ""
    insecure: bool = False
    hostname: str = ""
    extra_hosts: tuple[str, ...] = ()
    limits: Limits = Limits()
    exit_codes: tuple[int, ...] = (0,)
    architecture: str = ""


class Copy(msgspec.Struct, frozen=True):
    """``options`` are what the worker is told beside the sources and the destination."""

    source: str
    destination: str
    wildcard: bool
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    options: dict[str, Any] = {}


class Change(msgspec.Struct, frozen=True):
    """An action of the worker's, with its ``kind``: mkdir, mkfile, symlink, rm."""

    job: dict[str, str | int | bool]


class Action(msgspec.Struct, frozen=True):
    """``input`` and ``second`` are inputs, or from their count on the results of the actions before."""

    what: Copy | Change
    input: int
    second: int = NOTHING
    output: int = NOTHING


class File(msgspec.Struct, frozen=True):
    actions: tuple[Action, ...]


class Merge(msgspec.Struct, frozen=True):
    """All inputs upon one another, the lowest first."""

    inputs: tuple[int, ...]


class Diff(msgspec.Struct, frozen=True):
    """What ``upper`` has more than ``lower``."""

    lower: int
    upper: int


class Nested(msgspec.Struct, frozen=True):
    """A graph that stands in a file of an input."""

    input: int
    path: str


class Vertex(msgspec.Struct, frozen=True):
    """``inputs`` lead to vertices before this one. ``name`` is for people."""

    op: Source | Exec | File | Merge | Diff | Nested
    inputs: tuple[Edge, ...]
    name: str
    no_cache: bool = False


class Graph(msgspec.Struct, frozen=True):
    """``result`` is None for a graph of nothing."""

    vertices: tuple[Vertex, ...] = ()
    result: Edge | None = None
