"""What happens in a build, as it happens. The API makes Docker's stream of it, or wherry's own."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import msgspec


class Planned(msgspec.Struct, tag="planned"):
    """How many steps there are. ``stages`` are the texts of the instructions of those that are walked, by number, and
    ``arguments`` those of the ARGs before the first of all."""

    total: int
    stages: dict[int, list[str]] = {}
    arguments: list[str] = []


class Begun(msgspec.Struct, tag="begun"):
    """A step. ``stage`` is its stage's number in the file, ``name`` that one's name; ``line`` is where it stands."""

    step: int
    stage: int
    name: str
    text: str
    line: int = 0


class Running(msgspec.Struct, tag="running"):
    """A step's container has been started."""

    step: int
    container: str


class Printed(msgspec.Struct, tag="printed"):
    """``stream`` is 1 for standard output, 2 for standard error."""

    step: int
    stream: int
    text: str


class Pulled(msgspec.Struct, tag="pulled"):
    """A message of the pull of the image ``name``."""

    step: int
    message: dict[str, object]
    name: str = ""


class Done(msgspec.Struct, tag="done"):
    """``state`` is a short name of what the step ended with."""

    step: int
    stage: int
    cached: bool
    seconds: float
    state: str


class Failed(msgspec.Struct, tag="failed"):
    step: int
    stage: int
    reason: str = ""


class Warned(msgspec.Struct, tag="warned"):
    text: str


class Built(msgspec.Struct, tag="built"):
    """The image and its names. ``is_new``: it was not there before."""

    id: str
    names: list[str]
    is_new: bool


_UNHEARD = 64  # events, a piece of output being 64 KiB at most

Event = Planned | Begun | Running | Printed | Pulled | Done | Failed | Warned | Built
Tell = Callable[[Event], None]


class Progress:
    """A queue of events: ``tell`` puts one in, ``follow`` gives them out until the work has ended."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._taken = asyncio.Event()

    def tell(self, event: Event) -> None:
        self._queue.put_nowait(event)

    async def tell_when_heard(self, event: Event) -> None:
        """The same for what there may be any amount of: it waits while too much has not been heard yet."""
        self.tell(event)
        while self._queue.qsize() > _UNHEARD:
            self._taken.clear()
            await self._taken.wait()

    async def follow(self, work: "asyncio.Task[str]") -> AsyncGenerator[Event, None]:
        """Raises what the work raised. Ends the work when nobody follows any more."""
        work.add_done_callback(lambda _: self._queue.put_nowait(None))
        try:
            while (event := await self._queue.get()) is not None:
                self._taken.set()
                yield event
            await work
        finally:
            if not work.done():
                work.cancel()
            await asyncio.wait((work,))
