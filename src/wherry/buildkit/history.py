"""The builds that have ended, as ``docker buildx history`` lists them: the last ones, while the engine runs."""

import asyncio
import operator
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from wherry.buildkit import messages
from wherry.buildkit.build import Build
from wherry.buildkit.grpc import UNKNOWN
from wherry.buildkit.trace import timestamp
from wherry.common import key_values, times
from wherry.common.errors import InvalidParameter, NotFound

_KEPT = 50
_STARTED, _COMPLETE, _DELETED = range(3)


class History:
    def __init__(self) -> None:
        self._builds: dict[str, Build] = {}
        self._pinned: set[str] = set()
        self._listeners: set[asyncio.Queue[Any]] = set()

    def find(self, ref: str) -> Build | None:
        return self._builds.get(ref)

    def started(self, build: Build) -> None:
        self._tell(_STARTED, build)

    def add(self, build: Build) -> None:
        """A build has ended."""
        self._builds[build.ref] = build
        self._tell(_COMPLETE, build)
        unpinned = [ref for ref in self._builds if ref not in self._pinned]
        for ref in unpinned[: max(len(unpinned) - _KEPT, 0)]:
            del self._builds[ref]

    def update(self, ref: str, *, pinned: bool, delete: bool) -> None:
        """Raises NotFound."""
        if ref not in self._builds:
            raise NotFound(f"no such build {ref}")
        if delete:
            self._tell(_DELETED, self._builds.pop(ref))
            self._pinned.discard(ref)
        elif pinned:
            self._pinned.add(ref)
        else:
            self._pinned.discard(ref)

    async def listen(self, request: Any, active: list[Build]) -> AsyncIterator[Any]:
        """Events of builds: of those that are known, then, unless the request is for those alone, as they come.

        Raises InvalidParameter.
        """
        matches = _matcher(request.filter)
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            for build in active:
                if request.ref in ("", build.ref) and matches(build):
                    yield self._event(_STARTED, build)
            ended = [] if request.active_only else list(self._builds.values())
            ended = [build for build in ended if request.ref in ("", build.ref) and matches(build)]
            for build in ended[-request.limit :] if request.limit > 0 else ended:
                yield self._event(_COMPLETE, build)
            while not request.early_exit:
                event = await queue.get()
                if request.ref in ("", event.record.ref):
                    yield event
        finally:
            self._listeners.discard(queue)

    def _tell(self, kind: int, build: Build) -> None:
        for queue in self._listeners:
            queue.put_nowait(self._event(kind, build))

    def _event(self, kind: int, build: Build) -> Any:
        trace = build.trace
        record = messages.BuildHistoryRecord(
            ref=build.ref,
            frontend="dockerfile.v0",
            frontend_attrs=build.frontend_options,
            exporters=[messages.Exporter(type=kind, attrs=attributes) for kind, attributes in build.exporters],
            created_at=timestamp(build.created),
            exporter_response=build.response,
            pinned=build.ref in self._pinned,
            cached_steps=trace.cached,
            total_steps=trace.total,
            completed_steps=trace.completed,
            warnings=trace.warnings,
        )
        if build.completed:
            record.completed_at.CopyFrom(timestamp(build.completed))
        if build.error is not None:
            record.error.CopyFrom(messages.Status(code=UNKNOWN, message=build.error.message))
        return messages.BuildHistoryEvent(type=kind, record=record)


_FIELDS = ("ref", "status", "repository", "startedAt", "completedAt", "duration")
_COMPARED = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def _matcher(filters: Sequence[str]) -> Callable[[Build], bool]:
    """Whether one of these holds of a build: "status==error,duration>1m" holds when all its parts do."""
    wanted = [[_condition(part) for part in key_values.fields(text)] for text in filters]
    return lambda build: not wanted or any(all(holds(build) for holds in parts) for parts in wanted)


def _condition(text: str) -> Callable[[Build], bool]:
    sign = next((sign for sign in _COMPARED if sign in text), "=")
    field, found, value = text.partition(sign)
    if not found or field not in _FIELDS:
        raise InvalidParameter(f"invalid filter {text}: expected {', '.join(_FIELDS)}")
    compare = _COMPARED.get(sign, operator.eq)
    if field in _FIELDS[:3]:
        return lambda build: bool(compare(_said(build, field), value))
    try:
        limit = times.parse_duration(value) if field == "duration" else times.parse_timestamp(value)
    except (ValueError, InvalidParameter):
        raise InvalidParameter(f"invalid filter {text}: expected a time, or a duration") from None
    return lambda build: bool(compare(_moment(build, field), limit))


def _said(build: Build, field: str) -> str:
    if field == "ref":
        return build.ref
    if field == "repository":
        return build.frontend_options.get("vcs:source", build.frontend_options.get("context", ""))
    if not build.completed:
        return "running"
    if build.error is None:
        return "completed"
    return "canceled" if "context canceled" in build.error.message else "error"


def _moment(build: Build, field: str) -> int:
    """Nanoseconds."""
    if field == "duration":
        return build.completed - build.created if build.completed else 0
    return build.created if field == "startedAt" else build.completed
