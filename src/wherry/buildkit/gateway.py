"""moby.buildkit.v1.frontend.LLBBridge: how a client directs a build that its Solve has begun.

Each call says in its metadata which build it belongs to. What is solved is known to the client by references.
"""

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from wherry.buildkit import messages
from wherry.buildkit.build import Build
from wherry.buildkit.control import worker
from wherry.buildkit.definition import of_result
from wherry.buildkit.grpc import Method, RpcError, Service
from wherry.buildkit.http2 import Headers, texts
from wherry.common.errors import InvalidParameter, NotFound, NotSupported

if TYPE_CHECKING:
    from wherry.buildkit.service import BuildKit

_BUILD = "buildkit-controlapi-buildid"

# What clients look for before they use it: of the gateway, and of graphs.
_FRONTEND_CAPS = (
    "solve.base", "solve.inlinereturn", "resolveimage", "resolveimage.resolvemode", "return", "returnmap",
    "importcaches", "proto.refarray", "reference.output", "frontend.inputs", "gateway.solve.metadata",
    "gateway.solve.evaluate", "gateway.evaluate", "gateway.warnings",
)  # fmt: skip
_LLB_CAPS = (
    "source.image", "source.local", "source.local.unique", "source.local.sessionid", "source.local.includepatterns",
    "source.local.followpaths", "source.local.excludepatterns", "source.local.sharedkeyhint", "source.git",
    "source.http", "constraints", "platform", "meta.description",
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
            raise NotSupported("a build that comes as a graph is not supported yet: expected a Dockerfile")
        if not request.frontend:
            return messages.GatewaySolveResponse(result=messages.Result(ref=messages.Ref()))
        options: Mapping[str, str] = {**request.frontend_opt, **_imports(request)}
        kit = self._kit
        inputs = request.frontend_inputs
        image = await build.solve(kit.engine.builder, kit.sources, request.frontend, options, inputs)
        ref = secrets.token_hex(16)
        build.results[ref] = image
        result = messages.Result(metadata={"containerimage.config": kit.engine.images.document(image)})
        if request.allow_result_array_ref:
            result.ref.CopyFrom(messages.Ref(id=ref, def_=of_result(image)))
        else:
            result.ref_deprecated = ref
        return messages.GatewaySolveResponse(ref="" if request.allow_result_return else ref, result=result)

    async def give_back(self, request: Any, metadata: Headers) -> Any:
        """The client has decided what the build's result is, or failed."""
        build = await self._build(metadata)
        if build.returned.done():
            raise InvalidParameter("the build has a result already")
        if request.HasField("error") and request.error.code:
            details = [(each.type_url, each.value) for each in request.error.details]
            build.returned.set_exception(RpcError(request.error.code, request.error.message, details))
            return messages.ReturnResponse()
        refs = list(request.result.refs.refs.values()) or [request.result.ref]
        if len(refs) > 1:
            raise NotSupported("a result of several images is not supported yet")
        ref = refs[0].id or request.result.ref_deprecated
        if ref and ref not in build.results:
            raise NotFound(f"no such reference {ref}")
        build.returned.set_result(build.results.get(ref, ""))
        return messages.ReturnResponse()

    async def evaluate(self, request: Any, metadata: Headers) -> Any:
        build = await self._build(metadata)
        if request.ref not in build.results:
            raise NotFound(f"no such reference {request.ref}")
        return messages.EvaluateResponse()

    async def inputs(self, request: Any, metadata: Headers) -> Any:
        return messages.InputsResponse()

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


def _imports(request: Any) -> dict[str, str]:
    if not request.cache_imports:
        return {}
    entries = [{"Type": each.type, "Attrs": dict(each.attrs)} for each in request.cache_imports]
    return {"cache-imports": msgspec.json.encode(entries).decode()}
