"""The progress of a build as BuildKit's clients show it: vertexes, their logs and their warnings.

The builder tells what happens in its own words; each step that changes files, and each thing that is done before and
after, becomes a vertex. Whoever follows, at once or later, is sent all of it.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from wherry.buildkit import messages
from wherry.engine.builder import progress
from wherry.engine.builder.progress import Event

_MOST_OUTPUT = 2 << 20  # bytes of a step's output, as in BuildKit
_AT_ONCE = 512  # things that are told in one message
_FILES = ("FROM", "RUN", "COPY", "ADD", "WORKDIR")  # instructions that are shown: the others change no files


class Vertex:
    """One thing that is done. It begins when it is made."""

    def __init__(self, trace: "Trace", name: str, inputs: list[str]) -> None:
        self._trace = trace
        identity = f"{trace.ref} {trace.next_number()}"
        self.digest = f"sha256:{hashlib.sha256(identity.encode()).hexdigest()}"
        self._message = messages.Vertex(digest=self.digest, name=name, inputs=inputs, started=_now())
        self._printed = 0
        self._tell()

    def _tell(self) -> None:
        copy = messages.Vertex()
        copy.CopyFrom(self._message)
        self._trace.add("vertexes", copy)

    def end(self, *, cached: bool = False, error: str = "") -> None:
        if self._message.HasField("completed"):
            return
        self._message.completed.CopyFrom(_now())
        self._message.cached, self._message.error = cached, error
        self._trace.completed += 1
        self._trace.cached += cached
        self._tell()

    def print(self, stream: int, data: bytes) -> None:
        if self._printed > _MOST_OUTPUT:
            return
        self._printed += len(data)
        if self._printed > _MOST_OUTPUT:
            data = b"\n[output clipped, log limit 2MiB reached]\n"
        self._trace.add("logs", messages.VertexLog(vertex=self.digest, timestamp=_now(), stream=stream, msg=data))

    def transferred(self, name: str, size: int, done: bool) -> None:
        """How much of something has come, of which nobody knows how much it will be."""
        found = messages.VertexStatus(
            id=name,
            vertex=self.digest,
            name="transferring",
            current=size,
            timestamp=_now(),
            started=self._message.started,
        )
        if done:
            found.completed.CopyFrom(_now())
        self._trace.add("statuses", found)

    def status(self, name: str, current: int, total: int, *, done: bool = False) -> None:
        """How far something in it is: a layer of a pull, say."""
        found = messages.VertexStatus(id=name, vertex=self.digest, current=current, total=total, timestamp=_now())
        found.started.CopyFrom(self._message.started)
        if done:
            found.completed.CopyFrom(_now())
        self._trace.add("statuses", found)


class Trace:
    """All that was told of one build, in order."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        self.completed = self.cached = self.warnings = 0
        self._source: Any = None
        self._told: list[tuple[str, Any]] = []
        self._number = 0
        self._changed = asyncio.Event()
        self._ended = False
        self._steps: dict[int, Vertex] = {}
        self._last: dict[int, str] = {}  # by stage: the digest of its last vertex
        self._shown: dict[int, int] = {}  # by stage: how many of its instructions have begun
        self._plan: dict[int, int] = {}  # by stage: how many of its instructions are shown
        self._pulls: dict[str, Vertex] = {}

    @property
    def total(self) -> int:
        """How many vertexes there are."""
        return self._number

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def add(self, kind: str, message: Any) -> None:
        self._told.append((kind, message))
        self._changed.set()

    def vertex(self, name: str, inputs: list[str] | None = None) -> Vertex:
        return Vertex(self, name, inputs or [])

    def warn(self, message: Any) -> None:
        self.warnings += 1
        self.add("warnings", message)

    def describe(self, name: str, dockerfile: bytes) -> None:
        """What the warnings are about."""
        self._source = messages.SourceInfo(filename=name, data=dockerfile, language="Dockerfile")

    def close(self) -> None:
        """Nothing more will be told."""
        self._ended = True
        self._changed.set()

    def told(self) -> Iterator[Any]:
        """What was told up to now, as StatusResponses."""
        at = 0
        while at < len(self._told):
            answer, at = self._answer(at)
            yield answer

    def _answer(self, at: int) -> tuple[Any, int]:
        """A StatusResponse of what was told from there on, and where the next one begins."""
        piece = self._told[at : at + _AT_ONCE]
        answer = messages.StatusResponse()
        for kind, message in piece:
            getattr(answer, kind).append(message)
        return answer, at + len(piece)

    async def follow(self) -> AsyncIterator[Any]:
        """StatusResponses, from the beginning on."""
        at = 0
        while True:
            while at < len(self._told):
                answer, at = self._answer(at)
                yield answer
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    # what the builder tells

    def take(self, event: Event) -> None:
        match event:
            case progress.Planned():
                self._plan |= {stage: sum(map(_is_shown, texts)) for stage, texts in event.stages.items()}
                self._end_pulls("")
            case progress.Begun():
                self._begin(event)
            case progress.Printed():
                if event.step in self._steps:
                    self._steps[event.step].print(event.stream, event.text.encode("utf-8", "surrogateescape"))
            case progress.Pulled():
                self._pull(event)
            case progress.Done():
                if event.step in self._steps:
                    self._steps.pop(event.step).end(cached=event.cached)
            case progress.Failed():
                if event.step in self._steps:
                    self._steps.pop(event.step).end(error=event.reason)
            case progress.Warned(of_checks=False, is_classic=False):
                self.warn(messages.VertexWarning(level=1, short=event.text.encode()))
            case progress.Checked():
                start, end = messages.Position(line=event.line), messages.Position(line=event.end)
                self.warn(messages.VertexWarning(
                    level=1, short=event.text.encode(), detail=[event.description.encode()], url=event.url,
                    info=self._source, ranges=[messages.Range(start=start, end=end)],
                ))  # fmt: skip

    def _begin(self, event: progress.Begun) -> None:
        if not _is_shown(event.text):
            return
        number = self._shown[event.stage] = self._shown.get(event.stage, 0) + 1
        name = "" if len(self._plan) == 1 and event.name == f"stage-{event.stage}" else event.name
        where = f"[{name + ' ' if name else ''}{number}/{self._plan.get(event.stage, number)}]"
        inputs = [self._last[event.stage]] if event.stage in self._last else []
        vertex = self._steps[event.step] = self.vertex(f"{where} {' '.join(event.text.split())}", inputs)
        self._last[event.stage] = vertex.digest

    def _pull(self, event: progress.Pulled) -> None:
        """A message of Docker's pull: {"status": "Downloading", "id": …, "progressDetail": {"current": …}}."""
        message = event.message
        vertex = self._steps.get(event.step)
        if vertex is None:
            name = event.name or "images"
            vertex = self._pulls.get(name)
            if vertex is None:
                vertex = self._pulls[name] = self.vertex(f"[internal] load metadata for {name}")
        layer, detail = message.get("id"), message.get("progressDetail")
        if isinstance(layer, str) and isinstance(detail, dict) and message.get("status") != "Pulling from":
            current, total = detail.get("current"), detail.get("total")
            done = message.get("status") in ("Pull complete", "Already exists", "Download complete")
            if not isinstance(current, int) or not isinstance(total, int):
                current = total = 0
            vertex.status(layer, current, total, done=done)

    def _end_pulls(self, error: str) -> None:
        for vertex in self._pulls.values():
            vertex.end(error=error)

    def fail(self, error: str) -> None:
        """Ends what has begun and will not end by itself, with the error of the whole."""
        self._end_pulls(error)
        for vertex in self._steps.values():
            vertex.end(error=error)
        self._steps.clear()


def _is_shown(text: str) -> bool:
    """Whether the instruction may change files."""
    words = text.split(maxsplit=2)
    return bool(words) and words[0].upper() in _FILES and [word.lower() for word in words[:2]] != ["from", "scratch"]


def _now() -> Any:
    return timestamp(time.time_ns())


def timestamp(nanoseconds: int) -> Any:
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return messages.Timestamp(seconds=seconds, nanos=nanos)
