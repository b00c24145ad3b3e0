"""The graphs of one build: read (``llb``), carried out by the builder, with the client's files as sources."""

import contextlib
import json
import os
from collections.abc import Sequence
from typing import Any

from wherry.buildkit import llb
from wherry.buildkit.content import OCI_LAYOUT, read_layout
from wherry.buildkit.definition import RESULT
from wherry.buildkit.filesync import Sources
from wherry.buildkit.session import Session
from wherry.buildkit.trace import Trace, Vertex
from wherry.common.errors import InvalidParameter, NotSupported
from wherry.engine.builder import git
from wherry.engine.builder.builder import Builder
from wherry.engine.builder.context import download, inside
from wherry.engine.builder.graph import Source
from wherry.engine.builder.graph import Vertex as GraphVertex
from wherry.engine.builder.graph_solver import Ref
from wherry.engine.builder.request import ENTITLEMENTS, Attachables, BuildRequest
from wherry.storage.build_snapshots import Workspace

# What of a source's attributes is heeded, or says nothing that matters here. Any other is refused.
_LOCAL = frozenset(
    ("local.session", "local.sessionid", "local.unique", "local.sharedkeyhint", "local.differ", "local.includepattern",
     "local.excludepatterns", "local.followpaths", "local.metadatatransfer", "local.metadatatransferexclude")
)  # fmt: skip
_IMAGE = frozenset(("image.resolvemode", "image.recordtype"))
_LAYOUT = frozenset(("oci.session", "oci.store"))
_HTTP = frozenset(("http.checksum", "http.filename", "http.perm", "http.uid", "http.gid"))
# A client says of every repository which of its secrets may be for it: there is none for those that anybody can read.
_GIT = frozenset(
    ("git.fullurl", "git.keepgitdir", "git.checksum", "git.authtokensecret", "git.authheadersecret",
     "git.knownsshhosts", "git.mountsshsock")
)  # fmt: skip


class Graphs:
    def __init__(
        self,
        builder: Builder,
        sources: Sources,
        session: Session | None,
        trace: Trace,
        entitlements: Sequence[str],
    ) -> None:
        self._builder = builder
        self._sources = sources
        self._session = session
        self._trace = trace
        for name in entitlements:
            if name not in ENTITLEMENTS:
                raise InvalidParameter(f"unknown entitlement {name}: expected {' or '.join(ENTITLEMENTS)}")
        self._request = BuildRequest(given=Attachables(allow=tuple(entitlements)), client=session)

    async def solve(self, definition: Any) -> tuple[str, bool]:
        """The image that the graph's files make, and whether it was not there before. Raises EngineError."""
        graph = llb.read_definition(definition)
        async with contextlib.AsyncExitStack() as stack:

            async def fetch(source: Source, workspace: Workspace) -> Ref:
                return await self._fetch(source, workspace, stack)

            return await self._builder.build_graph(
                self._request, graph, fetch=fetch, decode=llb.read, watch=self._watch
            )

    def _watch(self, vertex: GraphVertex) -> "_Seen":
        return _Seen(self._trace.vertex(vertex.name))

    async def _fetch(self, source: Source, workspace: Workspace, stack: contextlib.AsyncExitStack) -> Ref:
        identifier = f"{source.scheme}://{source.rest}"
        if identifier.startswith(RESULT):
            return self._builder.tree_of(identifier[len(RESULT) :])
        match source.scheme:
            case "docker-image":
                _check(source, _IMAGE)
                image = await self._builder.find_image(source.rest, source.platform, self._session)
                return self._builder.tree_of(image)
            case "local":
                _check(source, _LOCAL)
                return Ref(directory=await self._local(source, stack))
            case "oci-layout":
                _check(source, _LAYOUT)
                return await self._layout(source, stack)
            case "git":
                _check(source, _GIT)
                return Ref(directory=await _clone(source, workspace))
            case "http" | "https":
                _check(source, _HTTP)
                return Ref(directory=await _download(source, workspace))
        raise NotSupported(
            f"source {identifier} is not supported: expected docker-image, oci-layout, local, git, http or https"
        )

    async def _layout(self, source: Source, stack: contextlib.AsyncExitStack) -> Ref:
        if self._session is None:
            raise InvalidParameter(f"source oci-layout://{source.rest} needs a session, by which its blobs come")
        store_id = source.attributes.get("oci.store", "")
        layout, digest = read_layout(f"{OCI_LAYOUT}{source.rest}", self._session, store_id)
        return self._builder.tree_of(await self._builder.bring_image(layout, digest, source.platform, stack))

    async def _local(self, source: Source, stack: contextlib.AsyncExitStack) -> str:
        if self._session is None:
            raise InvalidParameter(f"source local://{source.rest} needs a session, by which its files come")
        return await stack.enter_async_context(
            self._sources.receive(
                self._session,
                source.rest,
                include=_list(source, "local.includepattern"),
                exclude=_list(source, "local.excludepatterns"),
                follow=_list(source, "local.followpaths"),
            )
        )


class _Seen:
    """The progress of one operation, as a vertex of the build's trace."""

    def __init__(self, vertex: Vertex) -> None:
        self._vertex = vertex

    async def print(self, stream: int, text: str) -> None:
        self._vertex.print(stream, text.encode("utf-8", "surrogateescape"))

    def end(self, *, cached: bool = False, error: str = "") -> None:
        self._vertex.end(cached=cached, error=error)


def _check(source: Source, known: frozenset[str]) -> None:
    unknown = sorted(set(source.attributes) - known)
    if unknown:
        raise NotSupported(f"source {source.scheme}://{source.rest}: {unknown[0]} is not supported")


def _list(source: Source, name: str) -> list[str]:
    """An attribute that is a list of texts, as JSON."""
    try:
        found = json.loads(source.attributes.get(name) or "[]")
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InvalidParameter(f"source {source.scheme}://{source.rest}: {name} is no list of texts")
    return found


async def _clone(source: Source, workspace: Workspace) -> str:
    url = source.attributes.get("git.fullurl") or f"https://{source.rest.partition('#')[0]}"
    address = git.parse(f"{url.partition('#')[0]}#{source.rest.partition('#')[2]}")
    directory = workspace.directory("git")
    keep = source.attributes.get("git.keepgitdir") == "true"
    await git.clone(address, directory, keep_git=keep, commit=source.attributes.get("git.checksum", ""))
    return inside(directory, address.directory)


async def _download(source: Source, workspace: Workspace) -> str:
    directory = workspace.directory("download")
    checksum = source.attributes.get("http.checksum", "")
    got = await download(f"{source.scheme}://{source.rest}", directory, checksum=checksum)
    name = os.path.basename(source.attributes.get("http.filename", "")) or got.name
    os.rename(got.path, f"{directory}/{name}")
    numbers = {}
    for key, base in (("http.perm", 8), ("http.uid", 10), ("http.gid", 10)):
        try:
            numbers[key] = int(source.attributes.get(key) or "0", base)
        except ValueError:
            raise InvalidParameter(f"source {source.scheme}://{source.rest}: invalid {key}") from None
    os.chmod(f"{directory}/{name}", (numbers["http.perm"] or 0o600) & 0o7777)
    if numbers["http.uid"] or numbers["http.gid"]:
        os.chown(f"{directory}/{name}", numbers["http.uid"], numbers["http.gid"])
    return directory
