"""POST /build, and what goes before it: secrets and agents that its address may not hold"""

import base64
import binascii
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from wherry.api import absent, build_stream, response
from wherry.api.decode import parse
from wherry.api.request import Request
from wherry.engine.build.progress import Event
from wherry.engine.build.request import ENTITLEMENTS, BuildRequest, Given, Limits
from wherry.engine.engine import Engine
from wherry.model.errors import Forbidden, InvalidParameter
from wherry.model.host import Ulimit
from wherry.registry.credentials import from_config_header

# What only wherry's own client sends.
_DIRECTORY = "X-Wherry-Context"
_IDENTITY = "X-Wherry-Context-Identity"  # "device:inode": both sides mean the same directory
_OWN_EVENTS = "application/vnd.wherry.build+json"

_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid


async def build(request: Request, engine: Engine) -> web.StreamResponse:
    """POST /build. The body is a tar, unless ``remote`` says where the context is."""
    if request.text("version") == "2":
        await absent.no_buildkit(request, engine)
    asked = _read(request, engine)
    events = await _events(request, engine, asked)
    if _is_own(request):
        return await response.stream(request, build_stream.own(events), response.JSON)
    return await response.stream(request, build_stream.classic(events, quiet=request.flag("q")), response.JSON)


async def files(request: Request, engine: Engine) -> web.StreamResponse:
    """GET /build/files, for wherry's own client: a tar of the files of ``image``, without what a container adds."""
    return await response.stream(request, engine.builder.files(request.text("image")), response.TAR)


class _GivenBody(msgspec.Struct):
    """``secrets`` are base64."""

    secrets: dict[str, str] = {}
    ssh: dict[str, str] = {}
    allow: list[str] = []


async def hold(request: Request, engine: Engine) -> web.Response:
    """POST /build/given, for wherry's own client: ``{"secrets": {id: base64}, "ssh": {id: socket}, "allow": […]}``.

    The answer's ``Id`` goes into the query of the build as ``given``.
    """
    body = await request.json(_GivenBody)
    if body.ssh and not _is_trusted(request):
        raise Forbidden("an ssh agent can only be given by the engine's own user, over the engine's unix socket")
    for name in body.allow:
        if name not in ENTITLEMENTS:
            raise InvalidParameter(f"invalid entitlement {name}: expected {' or '.join(ENTITLEMENTS)}")
    try:
        secrets = {name: base64.b64decode(text, validate=True) for name, text in body.secrets.items()}
    except binascii.Error:
        raise InvalidParameter("a secret is not base64") from None
    token = engine.builder.hold(Given(secrets, body.ssh, tuple(body.allow)))
    return response.json({"Id": token}, 201)


class _Outside(msgspec.Struct):
    """A Dockerfile that is not in the directory, and the .dockerignore beside it; both base64."""

    dockerfile: str | None = None
    ignore: str | None = None


async def _events(request: Request, engine: Engine, asked: BuildRequest) -> AsyncIterator[Event]:
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
    transport = request.http.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family != socket.AF_UNIX:
        return False
    with socket.socket(fileno=os.dup(sock.fileno())) as peer:
        _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return uid in (0, os.geteuid())


def _read(request: Request, engine: Engine) -> BuildRequest:
    """The query. Raises InvalidParameter."""
    given = request.text("given")
    if request.text("isolation") not in ("", "default"):
        raise InvalidParameter(f'Unsupported isolation: "{request.text("isolation")}": linux only supports default')
    cache_from = tuple(_json(request, "cachefrom", list[str], []))
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
        cache_from=cache_from,
        only_cache_from=bool(cache_from) and not _is_own(request),
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
            shm_size=_number(request, "shmsize"),
            ulimits=tuple(_json(request, "ulimits", list[Ulimit], [])),
            cgroup_parent=request.text("cgroupparent"),
        ),
        given=engine.builder.take(given) if given else Given(),
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


def _json(request: Request, key: str, kind: Any, default: Any) -> Any:
    text = request.text(key)
    if not text:
        return default
    raw = parse(text.encode())
    if raw is None:
        return default
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid value for {key}: {error}") from None
