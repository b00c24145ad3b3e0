"""The builds that have ended, as ``docker buildx history`` lists them: ``build-history/`` of the data root.

Each has two files, by the digest of its name: what is known of it, and its progress, which is only read when somebody
asks for it. The first is written last, so that it is there when all is.
"""

import asyncio
import contextlib
import operator
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from wherry.buildkit import messages
from wherry.buildkit.build import Build
from wherry.buildkit.grpc import UNKNOWN
from wherry.buildkit.trace import timestamp
from wherry.common import key_values, times
from wherry.common.errors import InvalidParameter, NotFound
from wherry.storage.content import digest_of

_KEPT = 50
_STARTED, _COMPLETE, _DELETED = range(3)
_RECORD, _PROGRESS = "record", "progress"


class History:
    def __init__(self, directory: str) -> None:
        self._directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._records: dict[str, Any] = {record.ref: record for record in _read_all(directory)}
        self._listeners: set[asyncio.Queue[Any]] = set()

    def __contains__(self, ref: str) -> bool:
        return ref in self._records

    def started(self, build: Build) -> None:
        self._tell(_STARTED, _record(build))

    def add(self, build: Build) -> None:
        """A build has ended. A full disk costs what it has told, and nothing else."""
        record = _record(build)
        self._records[build.ref] = record
        with contextlib.suppress(OSError):
            told = messages.Progress(answers=build.trace.told())
            _write(self._path(build.ref, _PROGRESS), told.SerializeToString())
            _write(self._path(build.ref, _RECORD), record.SerializeToString())
        self._tell(_COMPLETE, record)
        unpinned = [ref for ref, each in self._records.items() if not each.pinned]
        for ref in unpinned[:-_KEPT]:
            self._forget(ref)

    async def progress(self, ref: str) -> AsyncIterator[Any]:
        """StatusResponses. Raises NotFound."""
        try:
            data = await asyncio.to_thread(_read, self._path(ref, _PROGRESS))
            found = messages.Progress.FromString(data)
        except (OSError, DecodeError):
            raise NotFound(f"what was told of the build {ref} is not here any more") from None
        for answer in found.answers:
            yield answer

    def update(self, ref: str, *, pinned: bool, delete: bool) -> None:
        """Raises NotFound."""
        if ref not in self._records:
            raise NotFound(f"no such build {ref}")
        record = self._records[ref]
        if delete:
            self._forget(ref)
            self._tell(_DELETED, record)
        elif record.pinned != pinned:
            record.pinned = pinned
            _write(self._path(ref, _RECORD), record.SerializeToString())

    async def listen(self, request: Any, active: Iterable[Build]) -> AsyncIterator[Any]:
        """Events of builds: of those that are known, then, unless the request is for those alone, as they come.

        Raises InvalidParameter.
        """
        matches = _matcher(request.filter)
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            for record in map(_record, active):
                if request.ref in ("", record.ref) and matches(record):
                    yield _event(_STARTED, record)
            ended = [] if request.active_only else list(self._records.values())
            ended = [record for record in ended if request.ref in ("", record.ref) and matches(record)]
            for record in ended[-request.limit :] if request.limit > 0 else ended:
                yield _event(_COMPLETE, record)
            while not request.early_exit:
                event = await queue.get()
                if request.ref in ("", event.record.ref):
                    yield event
        finally:
            self._listeners.discard(queue)

    def _tell(self, kind: int, record: Any) -> None:
        for queue in self._listeners:
            queue.put_nowait(_event(kind, record))

    # --- files

    def _path(self, ref: str, kind: str) -> str:
        return f"{self._directory}/{digest_of(ref.encode()).removeprefix('sha256:')}.{kind}"

    def _forget(self, ref: str) -> None:
        self._records.pop(ref, None)
        for kind in (_RECORD, _PROGRESS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(ref, kind))


def _read_all(directory: str) -> list[Any]:
    """The records, the oldest first."""
    found = []
    for name in os.listdir(directory):
        if name.endswith(f".{_RECORD}"):
            with contextlib.suppress(OSError, DecodeError):
                found.append(messages.BuildHistoryRecord.FromString(_read(f"{directory}/{name}")))
    return sorted(found, key=lambda record: _nanoseconds(record.completed_at))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, data: bytes) -> None:
    with open(f"{path}.new", "wb") as file:
        file.write(data)
    os.rename(f"{path}.new", path)


def _event(kind: int, record: Any) -> Any:
    return messages.BuildHistoryEvent(type=kind, record=record)


def _record(build: Build) -> Any:
    trace = build.trace
    record = messages.BuildHistoryRecord(
        ref=build.ref,
        frontend="dockerfile.v0" if build.frontend_options else "",
        frontend_attrs=build.frontend_options,
        exporters=[messages.Exporter(type=kind, attrs=attributes) for kind, attributes in build.exporters],
        created_at=timestamp(build.created),
        exporter_response=build.response,
        cached_steps=trace.cached,
        total_steps=trace.total,
        completed_steps=trace.completed,
        warnings=trace.warnings,
    )
    if build.completed:
        record.completed_at.CopyFrom(timestamp(build.completed))
    if build.error is not None:
        record.error.CopyFrom(messages.Status(code=UNKNOWN, message=build.error.message))
    return record


# --- filters

_FIELDS = ("ref", "status", "repository", "startedAt", "completedAt", "duration")
_COMPARED = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def _matcher(filters: Sequence[str]) -> Callable[[Any], bool]:
    """Whether one of these holds of a record: "status==error,duration>1m" holds when all its parts do."""
    wanted = [[_condition(part) for part in key_values.fields(text)] for text in filters]
    return lambda record: not wanted or any(all(holds(record) for holds in parts) for parts in wanted)


def _condition(text: str) -> Callable[[Any], bool]:
    sign = next((sign for sign in _COMPARED if sign in text), "=")
    field, found, value = text.partition(sign)
    if not found or field not in _FIELDS:
        raise InvalidParameter(f"invalid filter {text}: expected {', '.join(_FIELDS)}")
    compare = _COMPARED.get(sign, operator.eq)
    if field in _FIELDS[:3]:
        return lambda record: bool(compare(_said(record, field), value))
    try:
        limit = times.parse_duration(value) if field == "duration" else times.parse_timestamp(value)
    except (ValueError, InvalidParameter):
        raise InvalidParameter(f"invalid filter {text}: expected a time, or a duration") from None
    return lambda record: bool(compare(_moment(record, field), limit))


def _said(record: Any, field: str) -> str:
    if field == "ref":
        return str(record.ref)
    if field == "repository":
        return str(record.frontend_attrs.get("vcs:source", record.frontend_attrs.get("context", "")))
    if not record.HasField("completed_at"):
        return "running"
    if not record.HasField("error"):
        return "completed"
    return "canceled" if "context canceled" in record.error.message else "error"


def _moment(record: Any, field: str) -> int:
    """Nanoseconds."""
    created, completed = _nanoseconds(record.created_at), _nanoseconds(record.completed_at)
    if field == "duration":
        return completed - created if completed else 0
    return created if field == "startedAt" else completed


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.seconds) * 1_000_000_000 + int(stamp.nanos)
