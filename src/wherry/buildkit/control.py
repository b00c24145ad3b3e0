"""moby.buildkit.v1.Control: what a client asks of the engine as a whole."""

import time
from typing import TYPE_CHECKING, Any

from wherry import __version__
from wherry.buildkit import exporter, messages
from wherry.buildkit.build import Build, Solved
from wherry.buildkit.exporter import export_cache, read_cache_form
from wherry.buildkit.grpc import UNAVAILABLE, Call, Method, RpcError, Service
from wherry.buildkit.trace import timestamp
from wherry.common import times
from wherry.common.errors import EngineError, InvalidParameter
from wherry.engine import platforms

if TYPE_CHECKING:
    from wherry.buildkit.service import BuildKit

_DOCKERFILE_VERSION = "1.7.0"  # whose instructions and flags the engine's frontend has


def service(kit: "BuildKit") -> Service:
    control = _Control(kit)
    methods = {
        "Solve": Method(messages.SolveRequest, control.solve),
        "Status": Method(messages.StatusRequest, control.status, streams=True),
        "ListWorkers": Method(messages.ListWorkersRequest, control.list_workers),
        "Info": Method(messages.InfoRequest, control.info),
        "DiskUsage": Method(messages.DiskUsageRequest, control.disk_usage),
        "Prune": Method(messages.PruneRequest, control.prune, streams=True),
        "Session": Method(messages.Bytes, control.session, streams=True),
        "ListenBuildHistory": Method(messages.BuildHistoryRequest, control.listen_history, streams=True),
        "UpdateBuildHistory": Method(messages.UpdateBuildHistoryRequest, control.update_history),
    }
    return {f"/moby.buildkit.v1.Control/{name}": method for name, method in methods.items()}


class _Control:
    def __init__(self, kit: "BuildKit") -> None:
        self._kit = kit

    async def solve(self, request: Any, metadata: Any) -> Any:
        """Carries a build out: by a frontend at once, or, without one, by what the client then asks of the gateway."""
        kit = self._kit
        session = await kit.sessions.get(request.session) if request.session else None
        build = Build(request.ref, session, tuple(request.entitlements))
        build.inputs = dict(request.frontend_inputs)
        build.is_internal = request.internal
        kit.begin(build)
        kept: set[str] = set()
        try:
            exports = exporter.read(request)
            build.exporters = [(each.type, each.attributes) for each in exports]
            for text in exporter.warnings(exports):
                build.trace.warn(messages.VertexWarning(level=1, short=text.encode()))
            caches = read_cache_form(request)
            build.inline_cache = any(each.type == "inline" for each in caches)
            if request.frontend:
                options = {**request.frontend_attrs, **_cache_options(request)}
                inputs = request.frontend_inputs
                solved = await build.solve(kit.engine.builder, kit.sources, request.frontend, options, inputs)
            elif request.HasField("definition") and request.definition.def_:
                image = await build.solve_graph(kit.engine.builder, kit.sources, request.definition)
                if document := exporter.config_of(exports):
                    image = build.configure(kit.engine.builder, image, document)
                solved = Solved.of(image)
            else:
                solved = await build.returned
            build.response = await exporter.export(kit.engine, build, solved, exports)
            if any(each.stays for each in exports):
                kept = {result.image for result in solved.results.values()}
            build.response |= await export_cache(kit.engine, build, solved, caches)
        except EngineError as error:
            build.error = error
            raise
        finally:
            build.completed = time.time_ns()
            kit.end(build)
            await kit.clear(each for each in build.made if each not in kept)
        return messages.SolveResponse(exporter_response=build.response)

    async def status(self, call: Call) -> None:
        request = await call.receive(messages.StatusRequest)
        async for answer in self._kit.progress(request.ref if request is not None else ""):
            await call.send(answer)

    async def list_workers(self, request: Any, metadata: Any) -> Any:
        return messages.ListWorkersResponse(record=[worker(self._kit)])

    async def info(self, request: Any, metadata: Any) -> Any:
        return messages.InfoResponse(version=_version())

    async def disk_usage(self, request: Any, metadata: Any) -> Any:
        return messages.DiskUsageResponse(record=[_usage(each) for each in self._kit.engine.builder.cache.usage()])

    async def prune(self, call: Call) -> None:
        request = await call.receive(messages.PruneRequest)
        if request is None:
            raise InvalidParameter("what is to be pruned was not said")
        cache = self._kit.engine.builder.cache
        before = {each["ID"]: each for each in cache.usage()}
        filters: dict[str, list[str]] = {}
        for text in filter(None, request.filter):
            name, _, value = text.partition("==" if "==" in text else "=")
            filters.setdefault(name, []).append(value)
        if request.keep_duration:
            filters.setdefault("until", []).append(f"{request.keep_duration // 10**9}s")
        gone = cache.prune(
            everything=request.all,
            filters=filters,
            reserved=request.reserved_space,
            max_used=request.max_used_space,
            min_free=request.min_free_space,
        )
        for name in gone["CachesDeleted"] or ():
            if name in before:
                await call.send(_usage(before[name]))
        freed = await self._kit.sources.prune()
        if freed:
            await call.send(messages.UsageRecord(id="local", size=freed, record_type="source.local"))

    async def session(self, call: Call) -> None:
        """The session as a stream of this connection, since API 1.53."""
        from wherry.buildkit.session import carry

        headers: dict[str, list[str]] = {}
        for name, value in call.metadata:
            headers.setdefault(name, []).append(value)
        prefix = "x-docker-expose-session-"
        session = self._kit.open_session(
            next(iter(headers.get(f"{prefix}uuid", [])), ""),
            next(iter(headers.get(f"{prefix}sharedkey", [])), ""),
            headers.get(f"{prefix}grpc-method", []),
        )
        await carry(call, session.connection)

    async def listen_history(self, call: Call) -> None:
        request = await call.receive(messages.BuildHistoryRequest)
        if request is None:
            raise RpcError(UNAVAILABLE, "what is to be listened to was not said")
        async for event in self._kit.history.listen(request, [*self._kit.builds.values()]):
            await call.send(event)

    async def update_history(self, request: Any, metadata: Any) -> Any:
        self._kit.history.update(request.ref, pinned=request.pinned, delete=request.delete)
        return messages.UpdateBuildHistoryResponse()


def worker(kit: "BuildKit") -> Any:
    """The engine as a worker of BuildKit's. By the label of a snapshotter clients know that it does not only make
    images of one platform for its own store."""
    return messages.WorkerRecord(
        id=kit.engine.system.info()["ID"],
        labels={
            "org.mobyproject.buildkit.worker.moby.host-gateway-ip": "172.17.0.1",
            "org.mobyproject.buildkit.worker.snapshotter": "overlayfs",
        },
        platforms=[
            messages.Platform(os=each.os, architecture=each.architecture, variant=each.variant)
            for each in platforms.runnable()
        ],
        version=_version(),
    )


def _version() -> Any:
    return messages.BuildkitVersion(package="wherry", version=f"v{__version__}", dockerfile_version=_DOCKERFILE_VERSION)


def _cache_options(request: Any) -> dict[str, str]:
    import json

    entries = [{"Type": each.type, "Attrs": dict(each.attrs)} for each in request.cache.imports]
    return {"cache-imports": json.dumps(entries)} if entries else {}


def _usage(record: dict[str, Any]) -> Any:
    return messages.UsageRecord(
        id=record["ID"],
        mutable=record["Type"] == "exec.cachemount",
        in_use=record["InUse"],
        size=record["Size"],
        created_at=timestamp(times.parse_rfc3339(record["CreatedAt"])),
        last_used_at=timestamp(times.parse_rfc3339(record["LastUsedAt"])),
        usage_count=record["UsageCount"],
        description=record["Description"],
        record_type=record["Type"],
        shared=record["Shared"],
    )
