"""moby.buildkit.v1.frontend.LLBBridge: how a client directs a build that its Solve has begun.

Each call says in its metadata which build it belongs to. What is solved is known to the client by references.
"""

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from wherry.buildkit import messages
from wherry.buildkit.build import Build, Solved
from wherry.buildkit.control import worker
from wherry.buildkit.definition import of_result
from wherry.buildkit.grpc import Method, RpcError, Service
from wherry.buildkit.http2 import Headers, texts
from wherry.common.errors import InvalidParameter, NotFound
from wherry.engine import platforms
from wherry.engine.image.bundle import Result

if TYPE_CHECKING:
    from wherry.buildkit.service import BuildKit

_CONFIG = "containerimage.config"
_BUILD = "buildkit-controlapi-buildid"

# What clients look for before they use it: of the gateway, and of graphs.
_FRONTEND_CAPS = (
    "solve.base", "solve.inlinereturn", "resolveimage", "resolveimage.resolvemode", "return", "returnmap",
    "importcaches", "proto.refarray", "reference.output", "frontend.inputs", "gateway.solve.metadata",
    "gateway.solve.evaluate", "gateway.evaluate", "gateway.warnings", "readfile", "readdir", "statfile",
)  # fmt: skip
_LLB_CAPS = (
    "source.image", "source.local", "source.local.unique", "source.local.sessionid", "source.local.includepatterns",
    "source.local.followpaths", "source.local.excludepatterns", "source.local.sharedkeyhint", "source.git",
    "source.http", "source.http.checksum", "source.http.perm", "soruce.http.uidgid", "source.git.keepgitdir",
    "source.ocilayout", "source.git.fullurl", "source.buildop.llbfilename", "exec.meta.base",
    "exec.meta.network", "exec.meta.proxyenv",
    "exec.meta.setsdefaultpath", "exec.meta.security", "exec.meta.ulimit", "exec.meta.cgroup.parent",
    "exec.meta.removemountstubs.recursive", "exec.mount.bind", "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache", "exec.mount.cache.sharing", "exec.mount.selector", "exec.mount.tmpfs", "exec.mount.tmpfs.size",
    "exec.mount.secret", "exec.mount.ssh", "exec.secretenv", "exec.validexitcode", "file.base", "file.rm.wildcard",
    "file.copy.includeexcludepatterns", "file.rm.nofollowsymlink", "file.symlink.create",
    "mergeop", "diffop", "constraints", "platform",
    "meta.ignorecache", "meta.description", "exporter.multiple", "exporter.image.attestations",
    "exporter.image.annotations", "exporter.sourcedateepoch",
)  # fmt: skip


def service(kit: "BuildKit") -> Service:
    gateway = _Gateway(kit)
    methods = {
        "Ping": Method(messages.PingRequest, gateway.ping),
        "Solve": Method(messages.GatewaySolveRequest, gateway.solve),
        "Return": Method(messages.ReturnRequest, gateway.give_back),
        "Evaluate": Method(messages.EvaluateRequest, gateway.evaluate),
        "Inputs": Method(messages.InputsRequest, gateway.inputs),
        "ResolveImageConfig": Method(messages.ResolveImageConfigRequest, gateway.resolve_image_config),
        "ReadFile": Method(messages.ReadFileRequest, gateway.read_file),
        "ReadDir": Method(messages.ReadDirRequest, gateway.read_directory),
        "StatFile": Method(messages.StatFileRequest, gateway.stat_file),
        "Warn": Method(messages.WarnRequest, gateway.warn),
    }
    return {f"/moby.buildkit.v1.frontend.LLBBridge/{name}": method for name, method in methods.items()}


class _Gateway:
    def __init__(self, kit: "BuildKit") -> None:
        self._kit = kit

    async def _build(self, metadata: Headers) -> Build:
        ref = next(iter(texts(metadata, _BUILD)), "")
        return await self._kit.build(ref)

    async def ping(self, request: Any, metadata: Headers) -> Any:
        return messages.PongResponse(
            frontend_caps=[messages.APICap(id=name, enabled=True) for name in _FRONTEND_CAPS],
            llb_caps=[messages.APICap(id=name, enabled=True) for name in _LLB_CAPS],
            workers=[worker(self._kit)],
        )

    async def solve(self, request: Any, metadata: Headers) -> Any:
        build = await self._build(metadata)
        if request.definition.def_:
            image = await build.solve_graph(self._kit.engine.builder, self._kit.sources, request.definition)
            build.graphs.add(image)
            return self._answer(build, Solved.of(image), request)
        if not request.frontend:
            return messages.GatewaySolveResponse(result=messages.Result(ref=messages.Ref()))
        options: Mapping[str, str] = {**request.frontend_opt, **_imports(request)}
        kit = self._kit
        if options.get("requestid"):
            answer = await build.answer(kit.engine.builder, kit.sources, options)
            return messages.GatewaySolveResponse(result=messages.Result(ref=messages.Ref(), metadata=answer))
        inputs = request.frontend_inputs
        solved = await build.solve(kit.engine.builder, kit.sources, request.frontend, options, inputs)
        return self._answer(build, solved, request)

    def _answer(self, build: Build, solved: Solved, request: Any) -> Any:
        """The references to what was solved."""
        kit = self._kit
        refs = {platform: secrets.token_hex(16) for platform in solved.results}
        build.results |= {refs[platform]: (platform, result) for platform, result in solved.results.items()}
        result = messages.Result()
        described = {
            platform: messages.Ref(id=ref, def_=of_result(build.results[ref][1].image))
            for platform, ref in refs.items()
        }
        first = next(iter(refs))
        if len(refs) > 1:
            for platform, ref in described.items():
                result.refs.refs[platform].CopyFrom(ref)
                result.metadata[f"{_CONFIG}/{platform}"] = kit.engine.images.document(solved.results[platform].image)
            result.metadata["refs.platforms"] = msgspec.json.encode({"Platforms": [_platform(each) for each in refs]})
        else:
            result.metadata[_CONFIG] = kit.engine.images.document(solved.image)
            if request.allow_result_array_ref:
                result.ref.CopyFrom(described[first])
            else:
                result.ref_deprecated = refs[first]
        return messages.GatewaySolveResponse(ref="" if request.allow_result_return else refs[first], result=result)

    async def give_back(self, request: Any, metadata: Headers) -> Any:
        """The client has decided what the build's result is, or failed."""
        build = await self._build(metadata)
        if build.returned.done():
            raise InvalidParameter("the build has a result already")
        if request.HasField("error") and request.error.code:
            details = [(each.type_url, each.value) for each in request.error.details]
            build.returned.set_exception(RpcError(request.error.code, request.error.message, details))
            return messages.ReturnResponse()
        given = [each.id for each in request.result.refs.refs.values()]
        given = given or [request.result.ref.id or request.result.ref_deprecated]
        for ref in filter(None, given):
            if ref not in build.results:
                raise NotFound(f"no such reference {ref}")
        results = dict(build.results[ref] for ref in sorted(filter(None, given), key=[*build.results].index))
        image = self._kit.engine.exports.primary([*results.values()]) if results else ""
        document = request.result.metadata.get(_CONFIG)
        if document and image in build.graphs:
            image = build.configure(self._kit.engine.builder, image, document)
            results = {platform: Result(image) for platform in results}
        build.returned.set_result(Solved(image, results))
        return messages.ReturnResponse()

    async def evaluate(self, request: Any, metadata: Headers) -> Any:
        build = await self._build(metadata)
        if request.ref not in build.results:
            raise NotFound(f"no such reference {request.ref}")
        return messages.EvaluateResponse()

    async def inputs(self, request: Any, metadata: Headers) -> Any:
        build = await self._build(metadata)
        return messages.InputsResponse(definitions=build.inputs)

    async def read_file(self, request: Any, metadata: Headers) -> Any:
        image, part = await self._result(request, metadata), request.range
        data = await self._kit.engine.builder.read_file(image, request.path, part.offset, part.length)
        return messages.ReadFileResponse(data=data)

    async def read_directory(self, request: Any, metadata: Headers) -> Any:
        image = await self._result(request, metadata)
        found = await self._kit.engine.builder.list_directory(image, request.path, request.include_pattern)
        return messages.ReadDirResponse(entries=[messages.Stat(**msgspec.to_builtins(each)) for each in found])

    async def stat_file(self, request: Any, metadata: Headers) -> Any:
        found = await self._kit.engine.builder.look_at(await self._result(request, metadata), request.path)
        return messages.StatFileResponse(stat=messages.Stat(**msgspec.to_builtins(found)))

    async def _result(self, request: Any, metadata: Headers) -> str:
        """The image that a reference means."""
        build = await self._build(metadata)
        if request.ref not in build.results:
            raise NotFound(f"no such reference {request.ref}")
        return build.results[request.ref][1].image

    async def resolve_image_config(self, request: Any, metadata: Headers) -> Any:
        build = await self._build(metadata)
        platform = "/".join(
            filter(None, (request.platform.os, request.platform.architecture, request.platform.variant))
        )
        image = await self._kit.engine.builder.find_image(request.ref, platform, build.session)
        return messages.ResolveImageConfigResponse(digest=image, config=self._kit.engine.images.document(image))

    async def warn(self, request: Any, metadata: Headers) -> Any:
        build = await self._build(metadata)
        build.trace.warn(
            messages.VertexWarning(
                vertex=request.digest, level=request.level, short=request.short, detail=request.detail, url=request.url,
                info=request.info, ranges=request.ranges,
            )
        )  # fmt: skip
        return messages.WarnResponse()


def _platform(text: str) -> dict[str, Any]:
    system, architecture, variant = platforms.parse_parts(text)
    found = {"architecture": architecture, "os": system, **({"variant": variant} if variant else {})}
    return {"ID": text, "Platform": found}


def _imports(request: Any) -> dict[str, str]:
    if not request.cache_imports:
        return {}
    entries = [{"Type": each.type, "Attrs": dict(each.attrs)} for each in request.cache_imports]
    return {"cache-imports": msgspec.json.encode(entries).decode()}
