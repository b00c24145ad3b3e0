"""What happens in a build, as it happens. The API makes Docker's stream of it, or wherry's own."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec


class Planned(msgspec.Struct, tag="planned"):
    """How many steps there are. ``stages`` are the texts of the instructions of those that are walked, by number, and
    ``arguments`` those of the ARGs before the first of all. ``triggers`` says of a stage how many of its instructions,
    after the FROM, are its base's ONBUILDs."""

    total: int
    stages: dict[int, list[str]] = {}
    arguments: list[str] = []
    triggers: dict[int, int] = {}


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


class Warned(msgspec.Struct, tag="warned", omit_defaults=True):
    """``of_checks``: one of the Dockerfile's checks says the same. ``is_classic``: BuildKit says nothing of it."""

    text: str
    of_checks: bool = False
    is_classic: bool = False


class Checked(msgspec.Struct, tag="checked"):
    """What a check of the Dockerfile has found, of which lines, and where there is more about it."""

    text: str
    description: str
    url: str
    line: int
    end: int


class Built(msgspec.Struct, tag="built", omit_defaults=True):
    """The image and its names. ``is_new``: it was not there before. ``images`` are those of all platforms, by these,
    and ``token`` is what the engine knows the build by for a while, to export it."""

    id: str
    names: list[str]
    is_new: bool
    images: dict[str, str] = {}
    token: str = ""


_UNHEARD = 64  # events, a piece of output being 64 KiB at most

Event = Planned | Begun | Running | Printed | Pulled | Done | Failed | Warned | Checked | Built
Tell = Callable[[Event], None]


class Progress:
    """A queue of events: ``tell`` puts one in, ``follow`` gives them out until the work has ended."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._followed = True

    def tell(self, event: Event) -> None:
        if self._followed:
            self._queue.put_nowait(event)

    async def tell_when_heard(self, event: Event) -> None:
        """The same for what there may be any amount of: it waits while too much has not been heard yet."""
        self.tell(event)
        while self._followed and self._queue.qsize() > _UNHEARD:
            self._taken.clear()
            await self._taken.wait()

    async def follow(self, work: "asyncio.Task[Any]") -> AsyncGenerator[Event, None]:
        """Raises what the work raised. Ends the work when nobody follows any more; what it does until then, for others
        that need a step of it, is told to nobody."""
        work.add_done_callback(lambda _: self._queue.put_nowait(None))
        try:
            while (event := await self._queue.get()) is not None:
                self._taken.set()
                yield event
            await work
        finally:
            self._followed = False
            self._taken.set()
            if not work.done():
                work.cancel()
            await asyncio.wait((work,))


class OfPlatform(Progress):
    """What happens in one of the builds for several platforms, which are told of as one: the steps and the stages of
    each are counted on from those of the one before."""

    def __init__(self, heard: Progress, platform: str, before: "OfPlatform | None") -> None:
        self._heard = heard
        self._platform = platform
        self._first_step: int = before.next_step if before else 0
        self._first_stage: int = before.next_stage if before else 0
        self.next_step: int = self._first_step
        self.next_stage: int = self._first_stage
        self._single = False

    def tell(self, event: Event) -> None:
        match event:
            case Planned():
                self.next_step = self._first_step + event.total
                self.next_stage = self._first_stage + 1 + max(event.stages, default=0)
                self._single = len(event.stages) == 1
                event.total = self.next_step
                event.stages = {stage + self._first_stage: texts for stage, texts in event.stages.items()}
            case Begun():
                alone = self._single and event.name == f"stage-{event.stage}"
                event.name = self._platform if alone else f"{self._platform} {event.name}"
        if not isinstance(event, Planned | Warned | Checked | Built) and (event.step or not isinstance(event, Pulled)):
            event.step += self._first_step
        if isinstance(event, Begun | Done | Failed):
            event.stage += self._first_stage
        self._heard.tell(event)

    async def tell_when_heard(self, event: Event) -> None:
        if isinstance(event, Printed):
            event.step += self._first_step
        await self._heard.tell_when_heard(event)
