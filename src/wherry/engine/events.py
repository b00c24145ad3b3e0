"""What happened: every change of state is told here, to those who listen and to those who ask later.

The last events are kept in the state database, so that ``docker events --since`` works across a restart of the engine.
"""

import asyncio
import logging
import sqlite3
import weakref
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import Any

import msgspec

from wherry.common import times
from wherry.common.errors import InvalidParameter
from wherry.model.container import Container
from wherry.storage.database import Database

# What list filters have in common.


def label_matches(labels: Mapping[str, str], wanted: str) -> bool:
    """``wanted`` is "key" or "key=value"."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def labels_pass(labels: Mapping[str, str], filters: Mapping[str, list[str]]) -> bool:
    """What prune's filters "label" and "label!" say: all of the first, and none of the second."""
    return all(label_matches(labels, wanted) for wanted in filters.get("label", ())) and not any(
        label_matches(labels, unwanted) for unwanted in filters.get("label!", ())
    )


def check_known(filters: Mapping[str, list[str]], known: Collection[str]) -> None:
    """Raises InvalidParameter for a filter that there is not."""
    unknown = set(filters).difference(known)
    if unknown:
        name = min(unknown)
        raise InvalidParameter(f"invalid filter '{name}'" if name else "invalid filter")


def boolean(name: str, values: list[str]) -> bool:
    """A filter whose value is a truth value, in the spellings that Docker takes. Raises InvalidParameter."""
    truths = {"true": True, "1": True, "false": False, "0": False}
    found = {truths.get(value.lower()) for value in values}
    if not values:
        raise InvalidParameter(f"invalid filter '{name}'")
    if len(found) != 1 or None in found:
        raise InvalidParameter(f"invalid filter '{name}=[{' '.join(sorted(values))}]'")
    return bool(found.pop())


log = logging.getLogger(__name__)

KEPT = 4096  # events that stay in the database; Docker keeps 256, in memory
_TRIM_EVERY = 256
_WRITTEN_AFTER = 0.5  # seconds: what an engine that is killed may forget
_KNOWN_FILTERS = {
    "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret",
    "service", "type", "volume",
}  # fmt: skip

Event = dict[str, Any]
Filters = Mapping[str, list[str]]


class Events:
    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate(
            "events",
            ["CREATE TABLE events (number INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, body BLOB)"],
        )
        self._listeners: weakref.WeakSet[asyncio.Queue[Event]] = weakref.WeakSet()  # the iterators hold them
        self._untrimmed = 0
        self._unwritten: list[tuple[int, bytes]] = []
        self._writing: asyncio.TimerHandle | None = None  # while there are unwritten ones
        self.published = 0
        self._encode = msgspec.json.Encoder().encode

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def publish(self, kind: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        moment = times.now()
        event: Event = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": actor, "Attributes": dict(sorted(attributes.items()))},
            "scope": "local",
            "time": moment // 1_000_000_000,
            "timeNano": moment,
        }
        if kind in ("container", "image"):  # the fields of API 1.21, which clients still read
            image = {"from": attributes.get("image", "")} if kind == "container" else {}
            event = {"status": action, "id": actor, **image, **event}
        self._keep(moment, event)
        self.published += 1
        for queue in self._listeners:
            queue.put_nowait(event)

    def _keep(self, moment: int, event: Event) -> None:
        """Writes events that come within a moment together: a run has seven, and Docker keeps none over its end."""
        self._unwritten.append((moment, self._encode(event)))
        if self._writing is None:
            try:
                self._writing = asyncio.get_running_loop().call_later(_WRITTEN_AFTER, self.write)
            except RuntimeError:  # while the engine is being made
                self.write()

    def write(self) -> None:
        """What has happened has happened, whether it can be written down or not."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        rows, self._unwritten = self._unwritten, []
        if not rows:
            return
        try:
            with self._database.transaction():
                self._database.execute_each("INSERT INTO events (time, body) VALUES (?, ?)", rows)
                self._untrimmed += len(rows)
                if self._untrimmed >= _TRIM_EVERY:
                    self._untrimmed = 0
                    self._database.execute(
                        "DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?", (KEPT,)
                    )
        except sqlite3.Error as error:
            log.error("%d events are not kept: %s", len(rows), error)

    def container(self, container: Container, action: str, **attributes: str) -> None:
        """Publishes what happened to a container, with the attributes that Docker gives: labels, image, name."""
        self.publish(
            "container",
            action,
            container.id,
            container.config.labels | {"image": container.image, "name": container.name} | attributes,
        )

    def subscribe(
        self, filters: Filters, since: int | None = None, until: int | None = None
    ) -> AsyncGenerator[Event, None]:
        """What happened from ``since`` on (nanoseconds), then what happens from this call on, up to ``until``; None is
        forever."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        if until is None or until > times.now():
            self._listeners.add(queue)
        return self._follow(queue, self._past(since, until), filters, until)

    async def _follow(
        self, queue: asyncio.Queue[Event], past: list[Event], filters: Filters, until: int | None
    ) -> AsyncGenerator[Event, None]:
        try:
            for event in past:
                if matches(event, filters):
                    yield event
            while queue in self._listeners:
                delay = None if until is None else max(0, until - times.now()) / 1e9
                try:
                    event = await asyncio.wait_for(queue.get(), delay)
                except TimeoutError:
                    return
                if matches(event, filters):
                    yield event
        finally:
            self._listeners.discard(queue)

    def _past(self, since: int | None, until: int | None) -> list[Event]:
        if since is None and (until is None or until > times.now()):
            return []
        self.write()
        rows = self._database.query(
            "SELECT body FROM events WHERE time >= ? AND time <= ? ORDER BY number",
            (since or 0, until if until is not None else times.now()),
        )
        return [msgspec.json.decode(row[0]) for row in rows]


def matches(event: Event, filters: Filters) -> bool:
    """Whether an event passes: every filter must be met, by any of its values; of labels by all."""
    actor = event["Actor"]
    attributes = actor["Attributes"]
    for name, values in filters.items():
        if not values or name not in _KNOWN_FILTERS:
            continue
        if name == "label":
            passed = all(label_matches(attributes, value) for value in values)
        elif name == "event":
            passed = any(event["Action"] == value or event["Action"].startswith(value + ":") for value in values)
        elif name == "type":
            passed = event["Type"] in values
        elif name == "scope":
            passed = event["scope"] in values
        elif name == "image":
            mentioned = attributes.get("name" if event["Type"] == "image" else "image", "")
            passed = any(value in (mentioned, actor["ID"], mentioned.partition(":")[0]) for value in values)
        else:
            known = (actor["ID"], attributes.get("name"))
            passed = event["Type"] == name and any(
                value in known or (len(value) >= 12 and actor["ID"].startswith(value)) for value in values
            )
        if not passed:
            return False
    return True


# Regular expressions that clients write. RE2 reads them, as in Docker: the time it takes grows with the text alone,
# where Python's own may take years over an expression that somebody means ill with.

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/")

_LARGEST = 1 << 20  # bytes that an expression may come to: a{1000} is one of seven characters

Finds = Callable[[str], bool]


def compile_expression(text: str) -> Finds:
    """Whether it is found in a text. Raises ValueError for what is no expression, or too large a one."""
    begins, ends = text.startswith("^"), text.endswith("$")
    plain = text.removeprefix("^").removesuffix("$")
    if _PLAIN.issuperset(plain):
        return _find_plain(plain, begins=begins, ends=ends)
    import re2  # 7 ms that few need

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _LARGEST
    try:
        found = re2.compile(text, options)
    except re2.error as error:
        raise ValueError(error.args[0].decode(errors="replace")) from None
    return lambda name: found.search(name) is not None


def name_filter(text: str) -> Finds:
    """What is no expression stands for itself."""
    try:
        return compile_expression(text)
    except ValueError:
        return lambda name: text in name


def _find_plain(text: str, *, begins: bool, ends: bool) -> Finds:
    if begins and ends:
        return lambda name: name == text
    if begins:
        return lambda name: name.startswith(text)
    if ends:
        return lambda name: name.endswith(text)
    return lambda name: text in name
