"""The progress of a build, as Docker's classic builder tells it, and as wherry's own client wants it."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from wherry.api import failures
from wherry.engine.build import progress
from wherry.engine.build.errors import StepFailed
from wherry.engine.build.progress import Event
from wherry.model.errors import EngineError

_encode = msgspec.json.Encoder().encode
_SHORT = 12
_BRIGHT_RED, _PLAIN = "\x1b[91m", "\x1b[0m"  # how the classic builder marks what a step says on standard error


async def own(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """One event a line, in their own words; an error is the classic stream's."""
    async for line in _lines(_own(events), events):
        yield line


async def classic(events: AsyncIterator[Event], *, quiet: bool) -> AsyncIterator[bytes]:
    """``{"stream": "Step 1/2 : FROM …\\n"}`` and so on. ``quiet`` tells the image's id alone."""
    async for line in _lines(_Classic(quiet).messages(events), events):
        yield line


async def _own(events: AsyncIterator[Event]) -> AsyncIterator[Any]:
    async for event in events:
        yield event


async def _lines(messages: AsyncIterator[Any], events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """What fails after the first line becomes the last one, as the status is gone."""
    begun = False
    try:
        async for message in messages:
            yield _encode(message) + b"\r\n"
            begun = True
    except Exception as failure:  # whatever it is, the client has no other way to hear of it
        if not begun or isinstance(failure, ConnectionError):  # of a client that has gone
            raise
        detail: dict[str, Any] = {"message": failures.told(failure)}
        if isinstance(failure, StepFailed):
            detail["code"] = failure.code
        yield _encode({"errorDetail": detail, "error": detail["message"]}) + b"\r\n"
    finally:
        for source in (messages, events):
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()


class _Classic:
    """Stages run side by side, and this stream has one line of events: each stage waits for its turn."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._total = 0
        self._turn: int | None = None
        self._stages: dict[int, int] = {}  # a step's stage
        self._waiting: dict[int, list[Event]] = {}
        self._last: dict[int, int] = {}
        self._container = ""

    async def messages(self, events: AsyncIterator[Event]) -> AsyncIterator[dict[str, Any]]:
        try:
            async for event in events:
                for message in self._take(event):
                    yield message
        except EngineError:
            for message in self._rest():
                yield message
            raise

    def _take(self, event: Event) -> list[dict[str, Any]]:
        match event:
            case progress.Planned():
                self._total = event.total
                return []
            case progress.Warned():
                return self._say(f"[Warning] {event.text}\n")
            case progress.Built():
                return [*self._rest(), *self._built(event)]
            case progress.Pulled(step=0):
                return [] if self._quiet else [dict(event.message)]
        if isinstance(event, progress.Begun):
            self._stages[event.step] = event.stage
        stage = self._stages.get(event.step, -1)
        if self._turn is None:
            self._turn = stage
        if stage != self._turn:
            self._waiting.setdefault(stage, []).append(event)
            return []
        return self._show(event)

    def _rest(self) -> list[dict[str, Any]]:
        """All that is still waiting for its turn, stage by stage."""
        found = [
            message for stage in sorted(self._waiting) for each in self._waiting[stage] for message in self._show(each)
        ]
        self._waiting.clear()
        return found

    def _show(self, event: Event) -> list[dict[str, Any]]:
        match event:
            case progress.Begun():
                return self._say(f"Step {event.step}/{self._total} : {event.text}\n")
            case progress.Running():
                self._container = event.container[:_SHORT]
                return self._say(f" ---> Running in {self._container}\n")
            case progress.Printed(stream=2):
                return self._say(f"{_BRIGHT_RED}{event.text}{_PLAIN}")
            case progress.Printed():
                return self._say(event.text)
            case progress.Pulled():
                return [] if self._quiet else [dict(event.message)]
            case progress.Done():
                used = " ---> Using cache\n" if event.cached else ""
                removed = f"Removing intermediate container {self._container}\n" if self._container else ""
                self._container = ""
                # The last step's state is the image, which is named when it is made.
                state = f" ---> {event.state}\n" if event.step < self._total else ""
                return [message for text in (removed, used, state) if text for message in self._say(text)]
        return []

    def _built(self, event: progress.Built) -> list[dict[str, Any]]:
        aux = {"aux": {"ID": event.id}}
        if self._quiet:
            return [aux, {"stream": f"{event.id}\n"}]
        short = event.id.removeprefix("sha256:")[:_SHORT]
        last = self._say(f" ---> {short}\n")
        named = [{"stream": f"Successfully tagged {name}\n"} for name in event.names]
        return [*last, aux, {"stream": f"Successfully built {short}\n"}, *named]

    def _say(self, text: str) -> list[dict[str, Any]]:
        return [] if self._quiet else [{"stream": text}]
