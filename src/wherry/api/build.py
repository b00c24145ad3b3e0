"""POST /build, and what goes before it: secrets and agents that its address may not hold"""

import base64
import binascii
import os
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from wherry.api import grpc, response
from wherry.api.request import Request, parse
from wherry.api.response import as_response
from wherry.common.errors import EngineError, Forbidden, InvalidParameter
from wherry.engine.builder import progress
from wherry.engine.builder.builder import FindContext
from wherry.engine.builder.progress import Event
from wherry.engine.builder.request import ENTITLEMENTS, Attachables, BuildRequest, Keeps, Limits, StepFailed
from wherry.engine.builder.subrequests import ask
from wherry.engine.engine import Engine
from wherry.engine.image.bundle import Result
from wherry.model.container import Ulimit
from wherry.registry.auth import from_config_header

# The progress of a build, as Docker's classic builder tells it, and as wherry's own client wants it.

_encode = msgspec.json.Encoder().encode
_SHORT = 12
_BRIGHT_RED, _PLAIN = "\x1b[91m", "\x1b[0m"  # how the classic builder marks what a step says on standard error


async def own_stream(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """One event a line, in their own words; an error is the classic stream's."""
    async for line in _lines(_own(events), events):
        yield line


async def classic_stream(
    events: AsyncIterator[Event], *, quiet: bool, keeps_containers: bool = False
) -> AsyncIterator[bytes]:
    """``{"stream": "Step 1/2 : FROM …\\n"}`` and so on. ``quiet`` tells the image's id alone.

    An error is Docker's one line; the lines of the Dockerfile that others see below it come before it.
    """
    async for line in _lines(_Classic(quiet, keeps_containers).messages(events), events):
        yield line


async def _own(events: AsyncIterator[Event]) -> AsyncIterator[Any]:
    async for event in events:
        yield event


async def _lines(messages: AsyncIterator[Any], events: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """What fails after the first line becomes the last one, as the status is gone."""
    begun = False
    try:
        async for message in messages:
            yield _encode(message) + b"\r\n"
            begun = True
    except Exception as failure:  # whatever it is, the client has no other way to hear of it
        if not begun or isinstance(failure, ConnectionError):  # of a client that has gone
            raise
        detail: dict[str, Any] = {"message": as_response(failure)}
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

    def __init__(self, quiet: bool, keeps_containers: bool) -> None:
        self._quiet = quiet
        self._keeps_containers = keeps_containers
        self._total = 0
        self._before = 0  # steps that are no events: ARGs before the first FROM
        self._turn: int | None = None
        self._numbers: dict[int, int] = {}  # what a step is called: triggers are not counted
        self._triggers: dict[int, int] = {}  # by a stage's first step: how many there are
        self._triggered: set[int] = set()
        self._stages: dict[int, int] = {}  # a step's stage
        self._waiting: dict[int, list[Event]] = {}
        self._last: dict[int, int] = {}
        self._container = ""

    async def messages(self, events: AsyncIterator[Event]) -> AsyncIterator[dict[str, Any]]:
        try:
            async for event in events:
                for message in self._take(event):
                    yield message
        except EngineError as failure:
            for message in self._rest():
                yield message
            if not isinstance(failure, StepFailed):
                raise type(failure)(failure.message.partition("\n")[0]) from None
            if failure.position.file and self._total:
                for message in self._say(f"{failure.position.excerpt()}\n"):
                    yield message
            raise failure.without_place() from None

    def _take(self, event: Event) -> list[dict[str, Any]]:
        match event:
            case progress.Planned():
                said = self._before
                self._before = len(event.arguments)
                self._total = event.total + self._before - sum(event.triggers.values())
                self._count(event)
                arguments = enumerate(event.arguments[said:], said + 1)
                return [each for step, text in arguments for each in self._say(f"Step {step}/{self._total} : {text}\n")]
            case progress.Checked():
                return []  # Docker's classic builder checks nothing
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

    def _count(self, planned: progress.Planned) -> None:
        step, number = 1, self._before + 1
        for stage, texts in planned.stages.items():
            triggers = planned.triggers.get(stage, 0)
            self._triggers[step] = triggers
            for place in range(len(texts)):
                self._numbers[step + place] = number
                if 1 <= place < 1 + triggers:
                    self._triggered.add(step + place)
                else:
                    number += 1
            step += len(texts)

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
                return self._begin(event)
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
                is_removed = self._container and not self._keeps_containers
                removed = f" ---> Removed intermediate container {self._container}\n" if is_removed else ""
                self._container = ""
                # The last step's state is the image, which is named when it is made; of triggers it is the last one's.
                is_last = event.step >= max(len(self._numbers), self._total - self._before)
                goes_on = self._triggers.get(event.step) or event.step + 1 in self._triggered
                state = "" if is_last or goes_on else f" ---> {event.state}\n"
                return [message for text in (removed, used, state) if text for message in self._say(text)]
        return []

    def _begin(self, event: progress.Begun) -> list[dict[str, Any]]:
        if event.step in self._triggered:
            return []
        begun = self._say(f"Step {self._numbers.get(event.step, event.step)}/{self._total} : {event.text}\n")
        if not (count := self._triggers.get(event.step, 0)):
            return begun
        return [*begun, *self._say(f"# Executing {count} build trigger{'s' if count > 1 else ''}\n")]

    def _built(self, event: progress.Built) -> list[dict[str, Any]]:
        aux = {"aux": {"ID": event.id}}
        if self._quiet:
            return [{"stream": f"{event.id}\n"}]
        short = event.id.removeprefix("sha256:")[:_SHORT]
        last = self._say(f" ---> {short}\n")
        named = [{"stream": f"Successfully tagged {name}\n"} for name in event.names]
        return [*last, aux, {"stream": f"Successfully built {short}\n"}, *named]

    def _say(self, text: str) -> list[dict[str, Any]]:
        return [] if self._quiet else [{"stream": text}]


# What only wherry's own client sends.
_DIRECTORY = "X-Wherry-Context"
_IDENTITY = "X-Wherry-Context-Identity"  # "device:inode": both sides mean the same directory
_OWN_EVENTS = "application/vnd.wherry.build+json"


async def build(request: Request, engine: Engine) -> web.StreamResponse:
    """POST /build. The body is a tar, unless ``remote`` says where the context is."""
    asked = _read(request, engine)
    if request.text("version") == "2":
        return await _by_buildkit(request, engine, asked)
    if subject := request.text("call"):
        return await _answer(request, engine, asked, subject)
    events = await _events(request, engine, asked)
    if _is_own(request):
        return await response.stream(request, own_stream(events), response.JSON)
    return await response.stream(
        request, classic_stream(events, quiet=request.flag("q"), keeps_containers=asked.keeps == "all"), response.JSON
    )


async def _answer(request: Request, engine: Engine, asked: BuildRequest, subject: str) -> web.Response:
    """Answers a question of wherry's own client about a Dockerfile, of which nothing is built."""
    find = await _find(request, engine, asked)
    context = await engine.builder.look(asked, find)
    answer = ask({"check": "lint"}.get(subject, subject), engine.builder.question(asked, context))
    return response.json({name: value.decode() for name, value in answer.items()})


async def _by_buildkit(request: Request, engine: Engine, asked: BuildRequest) -> web.StreamResponse:
    """BuildKit's progress instead of the classic builder's. The context comes by the session, where one is named."""
    from wherry.buildkit import rest  # 15 MB that few engines need

    if session := request.text("session"):
        outputs = _json(request, "outputs", list[dict[str, Any]], [])
        ref = request.text("buildid")
        messages = rest.from_session(grpc.service(engine), session, ref, asked, outputs)
    else:
        messages = rest.from_events(await _events(request, engine, asked))
    return await response.stream(request, _lines(messages, messages), response.JSON)


async def files(request: Request, engine: Engine) -> web.StreamResponse:
    """GET /build/files, for wherry's own client: a tar of the files of ``image``, without what a container adds."""
    files = engine.exports.files({"": Result(request.text("image"))})
    return await response.stream(request, files, response.TAR)


class _AttachablesBody(msgspec.Struct):
    """``secrets`` are base64."""

    secrets: dict[str, str] = {}
    ssh: dict[str, str] = {}
    allow: list[str] = []


async def hold(request: Request, engine: Engine) -> web.Response:
    """POST /build/given, for wherry's own client: ``{"secrets": {id: base64}, "ssh": {id: socket}, "allow": […]}``.

    The answer's ``Id`` goes into the query of the build as ``given``.
    """
    body = await request.json(_AttachablesBody)
    if body.ssh and not _is_trusted(request):
        raise Forbidden("an ssh agent can only be given by the engine's own user, over the engine's unix socket")
    for name in body.allow:
        if name not in ENTITLEMENTS:
            raise InvalidParameter(f"invalid entitlement {name}: expected {' or '.join(ENTITLEMENTS)}")
    try:
        secrets = {name: base64.b64decode(text, validate=True) for name, text in body.secrets.items()}
    except binascii.Error:
        raise InvalidParameter("a secret is not base64") from None
    token = engine.builder.hold(Attachables(secrets, body.ssh, tuple(body.allow)))
    return response.json({"Id": token}, 201)


class _Outside(msgspec.Struct):
    """A Dockerfile that is not in the directory, and the .dockerignore beside it; both base64."""

    dockerfile: str | None = None
    ignore: str | None = None


async def _events(request: Request, engine: Engine, asked: BuildRequest) -> AsyncIterator[Event]:
    return engine.builder.build(asked, await _find(request, engine, asked))


async def _find(request: Request, engine: Engine, asked: BuildRequest) -> FindContext:
    named = request.http.headers.get(_DIRECTORY)
    if named:
        directory = _check_directory(request, named)
        body = await request.json(_Outside)
        return engine.builder.from_directory(asked, directory, _decode(body.dockerfile), _decode(body.ignore))
    if remote := request.text("remote"):
        return engine.builder.from_remote(asked, remote)
    return engine.builder.from_stream(asked, request.body())


def _is_own(request: Request) -> bool:
    """Whether wherry's own client asks."""
    return request.http.headers.get("Accept") == _OWN_EVENTS


def _check_directory(request: Request, directory: str) -> str:
    """Only who could read it anyway may name a directory of this machine, and it must be the one that was meant."""
    if not _is_trusted(request):
        raise Forbidden("a directory can only be named by the engine's own user, over the engine's unix socket")
    try:
        path = os.fsdecode(base64.b64decode(directory, validate=True))
        found = os.stat(path)
    except (OSError, ValueError):
        raise InvalidParameter("the build's directory is not on the engine's machine") from None
    if request.http.headers.get(_IDENTITY) != f"{found.st_dev}:{found.st_ino}":
        raise InvalidParameter("the build's directory is not on the engine's machine")
    return path


def _decode(text: str | None) -> bytes | None:
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except binascii.Error:
        raise InvalidParameter("the Dockerfile is not base64") from None


def _is_trusted(request: Request) -> bool:
    """Whether the client is root or the engine's own user, on this machine."""
    peer = request.peer()
    return peer is not None and peer.uid in (0, os.geteuid())


def _keeps(request: Request) -> Keeps:
    if request.flag("forcerm"):
        return "none"
    return "failed" if request.flag("rm", default=True) else "all"


def _read(request: Request, engine: Engine) -> BuildRequest:
    """The query. Raises InvalidParameter."""
    given = request.text("given")
    if request.text("isolation") not in ("", "default"):
        raise InvalidParameter(f'Unsupported isolation: "{request.text("isolation")}": linux only supports default')
    if (version := request.text("version")) not in ("", "1", "2"):
        raise InvalidParameter(f'invalid version "{version}"')
    classic = not _is_own(request) and version != "2"
    return BuildRequest(
        dockerfile=request.text("dockerfile"),
        outside=request.text("outside"),
        tags=tuple(tag for tag in request.texts("t") if tag),
        target=request.text("target"),
        platform=request.text("platform"),
        network=request.text("networkmode"),
        build_args=_json(request, "buildargs", dict[str, str | None], {}),
        labels=_json(request, "labels", dict[str, str], {}),
        extra_hosts=_extra_hosts(request),
        cache_from=tuple(_json(request, "cachefrom", list[str], [])),
        classic=classic,
        keeps=_keeps(request) if classic else "none",
        security=tuple(request.texts("securityopt")),
        no_cache=request.flag("nocache"),
        pull=request.flag("pull"),
        squash=request.flag("squash"),
        limits=Limits(
            memory=_number(request, "memory"),
            memory_swap=_number(request, "memswap"),
            cpu_shares=_number(request, "cpushares"),
            cpu_period=_number(request, "cpuperiod"),
            cpu_quota=_number(request, "cpuquota"),
            cpuset_cpus=request.text("cpusetcpus"),
            cpuset_mems=request.text("cpusetmems"),
            shm_size=request.integer("shmsize") or 0,
            ulimits=tuple(_json(request, "ulimits", list[Ulimit], [])),
            cgroup_parent=request.text("cgroupparent"),
        ),
        given=engine.builder.take(given) if given else Attachables(),
        credentials=from_config_header(request.http.headers.get("X-Registry-Config", "")),
    )


def _number(request: Request, key: str) -> int:
    """A limit. What is no number is none, as in Docker."""
    try:
        return request.integer(key) or 0
    except InvalidParameter:
        return 0


def _extra_hosts(request: Request) -> tuple[str, ...]:
    """``name:address``, one in each, or several with commas, as older clients write them."""
    return tuple(entry for text in request.texts("extrahosts") for entry in text.split(",") if entry)


_KEYS = {"buildargs": "build args", "cachefrom": "cache-from", "ulimits": "ulimit settings"}  # Docker's words


def _json(request: Request, key: str, kind: Any, default: Any) -> Any:
    text = request.text(key)
    if not text:
        return default
    try:
        raw = parse(text.encode())
        return default if raw is None else msgspec.convert(raw, kind)
    except (InvalidParameter, msgspec.ValidationError) as error:
        raise InvalidParameter(f"error reading {_KEYS.get(key, key)}: {error}") from None
