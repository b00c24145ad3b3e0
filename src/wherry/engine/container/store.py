"""Every container the engine knows, by id, by name and by the beginning of an id; and its row in the state database."""

import asyncio
import contextlib
import logging
import os
import random
import re
import select
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec

from wherry.common.errors import Conflict, InvalidParameter, NotFound
from wherry.model.container import Container, ExecConfig
from wherry.runtime.monitor_client import Exec, Monitor
from wherry.storage.database import Database

# Names of containers: what may be one, and one at random for those who give none.

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")

_HOW = [
    "able", "airy", "amber", "ample", "apt", "avid", "balmy", "bold", "brave", "breezy", "bright", "brisk",
    "buoyant", "calm", "candid", "cheery", "chirpy", "civil", "clear", "clever", "cosy", "crisp", "curious",
    "dapper", "daring", "deft", "dewy", "eager", "early", "earnest", "easy", "even", "fabled", "fair", "fleet",
    "fluent", "fond", "frank", "fresh", "frosty", "gallant", "gentle", "glad", "gleaming", "golden", "graceful",
    "grand", "hale", "handy", "happy", "hardy", "hearty", "honest", "humble", "jaunty", "jolly", "jovial",
    "keen", "kind", "lively", "loyal", "lucid", "lucky", "lunar", "mellow", "merry", "mighty", "mild",
    "mindful", "misty", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud",
    "quick", "quiet", "ready", "robust", "rosy", "rustic", "salty", "serene", "sharp", "shiny", "silent",
    "silver", "simple", "sleek", "smooth", "snug", "sober", "solid", "spry", "stable", "starry", "staunch",
    "steady", "still", "stoic", "sturdy", "subtle", "sunny", "sure", "swift", "tender", "thrifty", "tidal",
    "tidy", "tranquil", "trim", "true", "trusty", "upbeat", "valiant", "vivid", "warm", "wary", "whole",
    "windy", "wise", "witty", "zesty",
]  # fmt: skip
_WHAT = [
    "anchor", "atoll", "bay", "beacon", "bell", "boom", "bosun", "bow", "bowline", "breaker", "breeze", "brig",
    "buoy", "cabin", "canal", "cape", "capstan", "cargo", "catboat", "channel", "clipper", "coast", "cockle",
    "compass", "coracle", "cove", "current", "cutter", "deck", "delta", "dhow", "dinghy", "dock", "dolphin",
    "dory", "drifter", "ebb", "eddy", "egret", "estuary", "felucca", "ferry", "fjord", "flotilla", "foghorn",
    "frigate", "galley", "gannet", "gondola", "gull", "gunwale", "halyard", "harbour", "haven", "hawser",
    "heron", "hull", "inlet", "isle", "jetty", "jib", "junk", "kayak", "keel", "kelp", "ketch", "knot",
    "lagoon", "lantern", "launch", "lighter", "lock", "longboat", "lugger", "mainsail", "mallard", "marina",
    "mast", "mooring", "narrows", "oar", "osprey", "otter", "outrigger", "packet", "paddle", "pelican",
    "petrel", "pier", "pilot", "pinnace", "plover", "porpoise", "port", "prow", "puffin", "punt", "quay",
    "raft", "reef", "rigging", "rudder", "sail", "sampan", "schooner", "scow", "sculler", "seal", "sextant",
    "shoal", "shore", "skiff", "skipper", "sloop", "sound", "spar", "spinnaker", "spray", "stern", "strait",
    "surf", "swell", "tern", "tide", "tiller", "trawler", "tug", "wake", "wave", "wharf", "whelk", "wherry",
    "windlass", "yawl",
]  # fmt: skip


def parse_link(text: str) -> tuple[str, str]:
    """("db", "database") for "db:database", "/db:/web/database" or, with the name for alias, "db"."""
    name, _, alias = text.partition(":")
    name = name.removeprefix("/")
    return name, alias.rpartition("/")[2] or name


def check_name(name: str) -> str:
    """The name without its slash. Raises InvalidParameter in Docker's words."""
    if not _NAME.fullmatch(name):
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name.removeprefix("/")


def suggest_name(attempt: int) -> str:
    """Two words with an underscore; from the second attempt on a digit more, so that names do not run out."""
    name = f"{random.choice(_HOW)}_{random.choice(_WHAT)}"
    return name if attempt == 0 else f"{name}{random.randrange(10 ** min(attempt, 9))}"


log = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{1,64}")


class PendingAttach(msgspec.Struct):
    """A client that came before the start: the monitor's end of its stream, and which streams it wants."""

    sock: socket.socket
    stdin: bool
    stdout: bool
    stderr: bool


class ExecRecord(msgspec.Struct, weakref=True):
    """An exec and how it is. ``exit_code`` is None until it has ended, ``process`` while it does not run. ``run`` is
    when the run of the container began that it was made for, ``killed_by`` the signal that it is to begin with.
    ``is_heard``: somebody has asked how it ended."""

    id: str
    container: "ContainerEntry"
    config: ExecConfig
    run: int
    started: bool = False
    running: bool = False
    exit_code: int | None = None
    exited: asyncio.Future[int] | None = None
    pid: int = 0
    process: Exec | None = None
    killed_by: int = 0
    ended_at: int = 0
    is_heard: bool = False


class ContainerEntry:
    """A container and what is only in memory: its lock, its monitor while it runs, and who waits for it."""

    def __init__(self, record: Container) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.monitor: Monitor | None = None
        self.pending: list[PendingAttach] = []
        self.execs: dict[str, ExecRecord] = {}
        self.exit_waiters: set[asyncio.Future[tuple[int, str]]] = set()
        self.removal_waiters: set[asyncio.Future[tuple[int, str]]] = set()
        self.health: asyncio.Task[None] | None = None
        self.restart: asyncio.Task[None] | None = None
        self.releasing: asyncio.Task[None] | None = None  # of its volumes, after its end
        self.ending = False  # SIGKILL was sent, and must not meet a container that stands still
        self.restarting = False  # by a user, not by its policy
        self.restart_delay = 0.0  # seconds; 0 before the first restart
        self.writers: dict[asyncio.Timeout, asyncio.Future[None]] = {}  # who write into its mounts from outside
        self.ended = asyncio.Event()  # set while no process of it runs
        self.ended.set()

    @property
    def images(self) -> frozenset[str]:
        """The ids of those it cannot do without: its own, and those that it has mounted."""
        mounted = (point.source for point in self.record.mounts if point.type == "image")
        return frozenset((self.record.image_id, *mounted))

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """While somebody writes into the mounts of the container as it runs. Raises Conflict when it is to be started
        again: no two overlays may write to one upper directory."""
        left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(None) as until:
                self.writers[until] = left
                try:
                    yield
                finally:
                    del self.writers[until]
                    left.set_result(None)
        except TimeoutError:
            if not until.expired():
                raise
            raise Conflict(f"container {self.record.id} has ended meanwhile: try again") from None

    async def turn_out_writers(self) -> None:
        """Ends those who write into mounts of its last run, and waits until they have left."""
        leaving = list(self.writers.values())
        for until in self.writers:
            until.reschedule(asyncio.get_running_loop().time())
        if leaving:
            await asyncio.wait(leaving)

    def await_start(self, attach: PendingAttach) -> None:
        """Keeps a client until the start. Those who came before and have gone need not be kept any more."""
        poll = select.poll()
        for each in self.pending:
            poll.register(each.sock, 0)
        gone = {fd for fd, _ in poll.poll(0)}
        for each in [each for each in self.pending if each.sock.fileno() in gone]:
            self.pending.remove(each)
            each.sock.close()
        self.pending.append(attach)

    def drop_pending(self) -> None:
        """Ends the streams of those who attached to a start that did not come about."""
        for attach in self.pending:
            attach.sock.close()
        self.pending.clear()


class ContainerStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate(
            "containers",
            ["CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, body BLOB NOT NULL)"],
        )
        self._encode = msgspec.json.Encoder().encode
        self._by_id: dict[str, ContainerEntry] = {}
        self._ids_by_name: dict[str, str] = {}
        decoder = msgspec.json.Decoder(Container)
        for (body,) in database.query("SELECT body FROM containers"):
            record = decoder.decode(body)
            self._by_id[record.id] = ContainerEntry(record)
            self._ids_by_name[record.name] = record.id

    def __iter__(self) -> Iterator[ContainerEntry]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._by_id

    def get(self, name: str) -> ContainerEntry:
        """Finds a container by full id, name, name in a link ("web/db"), or the unambiguous beginning of an id.

        Raises NotFound and InvalidParameter."""
        if not name:
            raise InvalidParameter('invalid name or ID supplied: ""')
        found = self._by_id.get(name) or self._by_name(name.removeprefix("/"))
        if found is not None:
            return found
        matches = [i for i in self._by_id if i.startswith(name)] if _ID.fullmatch(name) else []
        if len(matches) > 1:
            raise InvalidParameter(f"Multiple IDs found with provided prefix: {name}")
        if not matches:
            raise NotFound(f"No such container: {name}")
        return self._by_id[matches[0]]

    def _by_name(self, name: str) -> ContainerEntry | None:
        parent, linked, alias = name.partition("/")
        found = self._by_id.get(self._ids_by_name.get(parent, ""))
        if not linked or found is None:
            return found
        known = [parse_link(text) for text in found.record.host_config.links or ()]
        return next((self._by_id.get(target) for target, each in known if each == alias), None)

    def reserve(self, name: str | None, container_id: str) -> str:
        """Takes a name for a container that is being made, a random one for None. Raises Conflict when it is in use."""
        if name:
            name = check_name(name)
            holder = self._ids_by_name.get(name)
            if holder is not None:
                raise Conflict(
                    f'Conflict. The container name "/{name}" is already in use by container "{holder}". You have to '
                    "remove (or rename) that container to be able to reuse that name."
                )
        else:
            name = self._free_name()
        self._ids_by_name[name] = container_id
        return name

    def _free_name(self) -> str:
        attempt = 0
        while (name := suggest_name(attempt)) in self._ids_by_name:
            attempt += 1
        return name

    def release(self, name: str) -> None:
        self._ids_by_name.pop(name, None)

    def add(self, record: Container, before: Callable[[], None] = lambda: None) -> ContainerEntry:
        """Makes a container known; its name must have been reserved. What ``before`` writes is of one transaction with
        its row."""
        row = record.id, record.name, self._encode(record)
        with self._database.transaction():
            before()
            self._database.execute("INSERT INTO containers (id, name, body) VALUES (?, ?, ?)", row)
        entry = ContainerEntry(record)
        self._by_id[record.id] = entry
        return entry

    def save(self, entry: ContainerEntry) -> None:
        """Writes a container's row as it is now. One that has been removed meanwhile stays removed."""
        record = entry.record
        self._database.execute(
            "UPDATE containers SET name = ?, body = ? WHERE id = ?", (record.name, self._encode(record), record.id)
        )

    def record(self, entry: ContainerEntry) -> bool:
        """Saves what has happened to a container. Where that fails, as on a full disk, it has happened all the same:
        the next time writes it down as well. Whether it is written."""
        try:
            self.save(entry)
        except sqlite3.Error as error:
            log.error("the state of container %s cannot be written: %s", entry.record.id, error)
            return False
        return True

    def remove(self, entry: ContainerEntry, before: Callable[[], None]) -> None:
        """Forgets a container, and in the same transaction what ``before`` does."""
        with self._database.transaction():
            before()
            self._database.execute("DELETE FROM containers WHERE id = ?", (entry.record.id,))
        self._by_id.pop(entry.record.id, None)
        entry.execs.clear()
        self.release(entry.record.name)

    def new_id(self) -> str:
        return os.urandom(32).hex()


def resolve(waiters: set[asyncio.Future[tuple[int, str]]], outcome: tuple[int, str]) -> None:
    """Tells all who wait for an exit or a removal."""
    for future in list(waiters):
        if not future.done():
            future.set_result(outcome)
