"""`stats`: what containers use, once or as it changes."""

from __future__ import annotations

import select
import sys
import time

from wherry.cli.session import CommandError, Session, command
from wherry.cli.table import Listing, Row
from wherry.client.transport import APIError, ClientError, ConnectionLost
from wherry.common import flags
from wherry.common.flags import Options
from wherry.common.sizes import binary_size, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.client.blocking import Client, Pending, Response

REDRAW = 0.5  # seconds, as docker's

HOME, END_OF_LINE, END_OF_SCREEN, CLEAR = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"


def _if_known(show: Callable[[dict[str, Any]], str], otherwise: str = "--") -> Callable[[Row], str]:
    """A column: what is shown of the sample, dashes while there is none."""
    return lambda row: otherwise if row["sample"] is None else show(row["sample"])


def _memory(sample: dict[str, Any]) -> str:
    used, limit = memory(sample)
    return f"{binary_size(used)} / {binary_size(limit)}"


def _memory_percent(sample: dict[str, Any]) -> str:
    used, limit = memory(sample)
    return f"{used / limit * 100 if limit else 0:.2f}%"


def _network(sample: dict[str, Any]) -> str:
    networks = (sample.get("networks") or {}).values()
    return _transfer(sum(each["rx_bytes"] for each in networks), sum(each["tx_bytes"] for each in networks))


def _blocks(sample: dict[str, Any]) -> str:
    entries = (sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    return _transfer(*(sum(e["value"] for e in entries if e["op"][:1].lower() == kind) for kind in "rw"))


def _transfer(inward: int, outward: int) -> str:
    return f"{human_size(inward, 3)} / {human_size(outward, 3)}"


STATS = Listing(
    "*container.statsContext",
    "ID Name CPUPerc MemUsage MemPerc NetIO BlockIO PIDs",
    {
        "Container": ("CONTAINER", "container"),
        "Name": ("NAME", _if_known(lambda sample: str(sample.get("name") or "")[1:] or "--")),
        "ID": ("CONTAINER ID", Row.id),
        "CPUPerc": ("CPU %", _if_known(lambda sample: f"{cpu_percent(sample):.2f}%")),
        "MemUsage": ("MEM USAGE / LIMIT", _if_known(_memory, "-- / --")),
        "MemPerc": ("MEM %", _if_known(_memory_percent)),
        "NetIO": ("NET I/O", _if_known(_network)),
        "BlockIO": ("BLOCK I/O", _if_known(_blocks)),
        "PIDs": ("PIDS", _if_known(lambda sample: str((sample.get("pids_stats") or {}).get("current") or 0))),
    },
)


def row_of(container: str, sample: dict[str, Any] | None, truncates: bool) -> Row:
    """A container and its last sample; None while there is none."""
    return Row(STATS, {"container": container, "sample": sample, "Id": (sample or {}).get("id")}, truncates)


def cpu_percent(sample: dict[str, Any]) -> float:
    """Percent of one processor since the sample before: 200 is two of them."""
    now, before = sample.get("cpu_stats") or {}, sample.get("precpu_stats") or {}
    used = _total(now) - _total(before)
    passed = (now.get("system_cpu_usage") or 0) - (before.get("system_cpu_usage") or 0)
    processors = now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or ())
    return float(used / passed * processors * 100) if used > 0 and passed > 0 else 0.0


def _total(cpu: dict[str, Any]) -> int:
    return (cpu.get("cpu_usage") or {}).get("total_usage") or 0


def memory(sample: dict[str, Any]) -> tuple[int, int]:
    """Bytes used, without the page cache that the kernel can take back at once, and the limit."""
    found = sample.get("memory_stats") or {}
    used, detail = found.get("usage") or 0, found.get("stats") or {}
    for name in ("total_inactive_file", "inactive_file"):  # cgroup version 1, and 2
        inactive = detail.get(name)
        if inactive is not None and inactive < used:
            used -= inactive
            break
    return used, found.get("limit") or 0


class _Feed:
    """One container's samples, as they come."""

    def __init__(self, name: str, pending: Pending) -> None:
        self.name = name
        self.sample: dict[str, Any] | None = None
        self.error: ClientError | None = None
        self.ended = False
        self._pending = pending
        self._response: Response | None = None

    def fileno(self) -> int:
        return self._pending.fileno()

    def read(self) -> None:
        """Takes what has come. Blocks when nothing has."""
        try:
            if self._response is None:
                self._response = self._pending.response()
                if not self._response.ready:
                    return
            for sample in self._response.arrived():
                self.sample = sample
            self.ended = self._response.ended
        except ConnectionLost:  # a container that is removed, or an engine that goes
            self.ended = True
        except ClientError as error:
            self.error, self.ended = error, True

    def close(self) -> None:
        if self._response is not None:
            self._response.close()


class _Watch:
    """The containers that are being watched; with `everything`, also those that come, without those that go."""

    def __init__(self, client: Client, names: list[str], *, all: bool, stream: bool) -> None:
        self._client = client
        self._all, self._stream = all, stream
        self._everything = not names
        self._events: Response | None = None
        self.feeds: dict[str, _Feed] = {}
        if self._everything:
            if stream:
                # Before the list is asked for, so that nobody is missed in between.
                filters = {"type": ["container"], "event": ["create", "start", "die", "destroy"]}
                self._events = client.system.events(filters=filters)
            names = [str(found["Id"])[:12] for found in client.containers.list(all=all)]
        for name in names:
            self._add(name)

    def _add(self, name: str) -> None:
        if name not in self.feeds:
            pending = self._client.containers.stats(name, stream=self._stream)
            self.feeds[name] = _Feed(name, pending)

    def gather(self) -> None:
        """Returns when each container has given a sample, or said why it cannot. Raises CommandError for those."""
        for feed in list(self.feeds.values()):
            while feed.sample is None and not feed.ended:
                feed.read()
        self._drop_ended()
        errors = [str(feed.error) for feed in self.feeds.values() if feed.error]
        if errors:
            raise CommandError("\n".join(errors))

    def follow(self, until: float) -> None:
        """Takes what comes until that time (of time.monotonic())."""
        while (left := until - time.monotonic()) > 0:
            poll = select.poll()
            sources: dict[int, _Feed | None] = {feed.fileno(): feed for feed in self.feeds.values() if not feed.ended}
            if self._events is not None:
                sources[self._events.fileno()] = None
            for descriptor in sources:
                poll.register(descriptor, select.POLLIN)
            for descriptor, _ in poll.poll(left * 1000):
                feed = sources[descriptor]
                if feed is None:
                    self._take_events()
                else:
                    feed.read()
            self._drop_ended()

    def _take_events(self) -> None:
        assert self._events is not None
        for event in self._events.arrived():
            self._take_event(event)
        if self._events.ended:
            raise ConnectionLost("the engine has gone")

    def _take_event(self, event: dict[str, Any]) -> None:
        name, action = str(event["Actor"]["ID"])[:12], event["Action"]
        if action == "start" or (action == "create" and self._all):
            self._add(name)
        elif name in self.feeds and (action == "destroy" or (action == "die" and not self._all)):
            self.feeds.pop(name).close()

    def _drop_ended(self) -> None:
        for feed in list(self.feeds.values()):
            gone = isinstance(feed.error, APIError) and feed.error.not_found and self._everything
            if gone or (self._stream and feed.ended and not feed.error):
                del self.feeds[feed.name]


@command(
    flags.switch("all", "a", "Show all containers (default shows just running)"),
    flags.listing(),
    flags.switch("no-stream", "", "Disable streaming stats and only pull the first result"),
    flags.switch("no-trunc", "", "Do not truncate output"),
)
def run_stats(session: Session, options: Options) -> None:
    stream = not options["no-stream"]
    watch = _Watch(session.client, options.arguments, all=options["all"], stream=stream)
    watch.gather()
    format = options["format"] or str(session.config.get("statsFormat") or "")

    def text() -> str:
        rows = [row_of(feed.name, feed.sample, not options["no-trunc"]) for feed in watch.feeds.values()]
        return STATS.text(rows, format)

    if not stream:
        sys.stdout.write(text())
        return
    sys.stdout.write(CLEAR)
    while True:
        lines = text().splitlines()
        # One write, over what was there: a screen that is cleared first flickers.
        sys.stdout.write(HOME + "".join(f"{line} {END_OF_LINE}\n" for line in lines) + END_OF_SCREEN)
        sys.stdout.flush()
        if options.arguments and not watch.feeds:
            return
        try:
            watch.follow(time.monotonic() + REDRAW)
        except ConnectionLost:
            return  # the engine is being restarted, say; docker ends silently, too
