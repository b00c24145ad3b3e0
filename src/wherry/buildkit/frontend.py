"""The frontend ``dockerfile.v0``: its options become a request to the engine's builder, its sources a context."""

import contextlib
import json
import posixpath
from collections.abc import Mapping
from typing import Any

from wherry.buildkit import definition
from wherry.buildkit.content import CacheInDirectory
from wherry.buildkit.filesync import Sources, Transferred, read_files
from wherry.buildkit.grpc import NOT_FOUND, RpcError
from wherry.buildkit.session import Session
from wherry.common import key_values
from wherry.common.errors import InvalidParameter, NotSupported
from wherry.common.ignore import PatternMatcher
from wherry.dockerfile.parser import parse
from wherry.engine.builder import context as contexts
from wherry.engine.builder.context import IGNORE_FILE, Context
from wherry.engine.builder.request import ENTITLEMENTS, Attachables, BuildRequest, Limits
from wherry.engine.image.remote_cache import Blobs
from wherry.model.container import Ulimit
from wherry.storage.build_snapshots import Workspace

# "# syntax=docker/dockerfile:1" and its like are answered by the engine's own frontend.
OWN_SYNTAX = ("docker/dockerfile", "docker.io/docker/dockerfile", "docker/dockerfile-upstream")
_DEFAULT = "Dockerfile"
_LOCAL = "local:"
_UPLOADED = "http://buildkit-session"


def read_options(options: Mapping[str, str], entitlements: tuple[str, ...], client: Session | None) -> BuildRequest:
    """The request that the frontend's options are. Raises InvalidParameter, NotSupported."""
    for name in entitlements:
        if name not in ENTITLEMENTS:
            raise InvalidParameter(f"unknown entitlement {name}: expected {' or '.join(ENTITLEMENTS)}")
    names, blobs = _cache_imports(options, client)
    given = {name[6:]: value for name, value in options.items() if name.startswith("label:")}
    arguments: dict[str, str | None] = {
        name[10:]: value for name, value in options.items() if name.startswith("build-arg:")
    }
    if hostname := options.get("hostname"):
        arguments.setdefault("BUILDKIT_SANDBOX_HOSTNAME", hostname)
    return BuildRequest(
        dockerfile=options.get("filename", ""),
        target=options.get("target", ""),
        platform=options.get("platform", ""),
        network=options.get("force-network-mode", "").replace("sandbox", ""),
        build_args=arguments,
        labels=given,
        extra_hosts=tuple(entry.replace("=", ":", 1) for entry in _csv(options.get("add-hosts", ""))),
        cache_from=names,
        caches=blobs,
        no_cache=options.get("no-cache") == "",
        no_cache_for=tuple(options.get("no-cache", "").lower().split(",")),
        pull=options.get("image-resolve-mode") == "pull",
        limits=Limits(
            shm_size=_number(options, "shm-size"),
            ulimits=tuple(map(_ulimit, _csv(options.get("ulimit", "")))),
            cgroup_parent=options.get("cgroup-parent", ""),
        ),
        given=Attachables(allow=entitlements),
        client=client,
    )


def read_contexts(options: Mapping[str, str], inputs: Mapping[str, Any]) -> dict[str, str]:
    """The contexts given with names, by those in small letters, perhaps with ``::`` and the platform that they are for:
    addresses, of which an ``input:`` is one of the graphs.

    Raises InvalidParameter, NotSupported.
    """
    found = {}
    for option, address in options.items():
        if option.startswith("context:"):
            name, apart, platform = option.removeprefix("context:").partition("::")
            name = f"{name.lower()}{apart}{platform}"
            if address.startswith("input:"):
                graph = inputs.get(address.removeprefix("input:"))
                if graph is None:
                    raise InvalidParameter(f"context {name}: there is no input {address.removeprefix('input:')}")
                address = definition.context_of(graph)
            found[name] = address
    return found


class Local:
    """The context of a client's directory, or one behind an address; and the Dockerfile, which may be elsewhere."""

    def __init__(self, options: Mapping[str, str], session: Session, sources: Sources) -> None:
        self._options = options
        self._session = session
        self._sources = sources
        self.filename = options.get("filename", "") or _DEFAULT
        self.given: dict[str, str] = {}  # directories of this machine: "context", "dockerfile"

    @property
    def remote(self) -> str:
        """The address of the context; "" for one that the client has."""
        address = self._options.get("context", "")
        return "" if address.startswith(_LOCAL) else address

    async def fetch(self, workspace: Workspace) -> Context:
        """A context that has an address, or is on the client's standard input. The Dockerfile may be the client's."""
        text = (await self.dockerfile())[0] if "dockerfilekey" in self._options else None
        filename = self._options.get("filename", "")
        if self.remote.startswith(f"{_UPLOADED}/"):
            stream = self._session.upload(self.remote.removeprefix(_UPLOADED))
            return await contexts.receive(workspace, stream, filename, text=text)
        return await contexts.fetch(workspace, self.remote, filename, text=text)

    async def dockerfile(self) -> tuple[bytes, bytes]:
        """Its text, and that of the .dockerignore that goes with it. Raises InvalidParameter when there is none."""
        if directory := self.given.get("dockerfile"):
            text = contexts.read_file(directory, self.filename)
            if text is None:
                raise InvalidParameter(f"failed to read dockerfile: open {self.filename}: no such file or directory")
            return text, contexts.read_file(directory, f"{self.filename}{IGNORE_FILE}") or b""
        name = self._options.get("dockerfilekey", "dockerfile")
        own_ignore = f"{self.filename}{IGNORE_FILE}"
        wanted = [self.filename, own_ignore, posixpath.join(posixpath.dirname(self.filename), _DEFAULT.lower())]
        found = await read_files(self._session, name, wanted)
        text = found.get(self.filename)
        if text is None and posixpath.basename(self.filename) == _DEFAULT:
            text = found.get(wanted[2])
        if text is None:
            raise InvalidParameter(f"failed to read dockerfile: open {self.filename}: no such file or directory")
        if own_ignore in found:
            return text, found[own_ignore]
        if self.remote or "context" in self.given:
            return text, b""
        try:
            beside = await read_files(self._session, self._options.get("contextkey", "context"), [IGNORE_FILE])
        except RpcError as error:
            if error.code != NOT_FOUND:  # a Dockerfile that copies nothing needs no context
                raise
            return text, b""
        return text, beside.get(IGNORE_FILE, b"")

    def named(self, name: str, tell: Transferred) -> "contextlib.AbstractAsyncContextManager[str]":
        """The files of another directory of the client's."""
        return self._sources.receive(self._session, name, tell=tell)

    def files(self, ignore: bytes, tell: Transferred) -> "contextlib.AbstractAsyncContextManager[str]":
        """The client's files, without those that ``ignore`` names."""
        PatternMatcher.parse(ignore)
        lines = [line.strip() for line in ignore.decode("utf-8", "replace").removeprefix("\ufeff").split("\n")]
        exclude = [line for line in lines if line and not line.startswith("#")]
        name = self._options.get("contextkey", "context")
        return self._sources.receive(self._session, name, exclude=exclude, tell=tell)


def context_of(directory: str, text: bytes, name: str, ignore: bytes) -> Context:
    """What the builder is given, of a directory from which what is ignored was left out already."""
    check_syntax(text, name)
    return Context(directory, [], text, name, PatternMatcher.parse(ignore))


def check_syntax(text: bytes, name: str) -> None:
    """Raises NotSupported for a Dockerfile that wants another frontend."""
    syntax = dict(parse(text, name).directives).get("syntax", "")
    if syntax and not is_own(syntax):
        raise NotSupported(
            f"syntax {syntax} is not supported: the engine reads Dockerfiles itself, as docker/dockerfile:1 does, "
            "and runs no other frontend"
        )


def is_own(syntax: str) -> bool:
    """Whether the image of a frontend is answered by the engine's own."""
    image = syntax.partition("@")[0].split(" ")[0]
    name = image.rpartition("/")[2]
    return image.removesuffix(f":{name.partition(':')[2]}") in OWN_SYNTAX


def _csv(text: str) -> list[str]:
    try:
        return key_values.fields(text) if text else []
    except ValueError as error:
        raise InvalidParameter(str(error)) from None


def _number(options: Mapping[str, str], key: str) -> int:
    text = options.get(key, "")
    if text and not (text.isascii() and text.isdigit()):
        raise InvalidParameter(f"invalid {key}: {text}")
    return int(text or 0)


def _ulimit(text: str) -> Ulimit:
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    try:
        return Ulimit(name=name, soft=int(soft), hard=int(hard or soft))
    except ValueError:
        raise InvalidParameter(f"invalid ulimit: {text}") from None


def _cache_imports(options: Mapping[str, str], client: Session | None) -> tuple[tuple[str, ...], tuple[Blobs, ...]]:
    """Names of images and caches in registries, and caches of the client's. Raises NotSupported for other kinds."""
    names = list(filter(None, options.get("cache-from", "").split(",")))
    blobs: list[Blobs] = []
    try:
        for entry in json.loads(options.get("cache-imports") or "[]"):
            kind, attributes = entry["Type"], entry.get("Attrs") or {}
            if kind == "registry":
                names.append(attributes["ref"])
            elif kind == "local" and client is not None:
                blobs.append(CacheInDirectory(client, attributes["src"], attributes["digest"]))
            else:
                raise NotSupported(f"cache import of type {kind} is not supported: expected registry or local")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidParameter("cache-imports is not what it should be") from None
    return tuple(dict.fromkeys(names)), tuple(blobs)
