"""Which request goes to which handler: the table, and how a path is looked up in it.

A ``{name}`` may hold slashes ("/images/library/debian/json"), so paths are matched from both their ends.
"""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from wherry.api import build, build_export, containers, exec, grpc, images, networks, system, volumes
from wherry.api.containers import attach_streams, attach_websocket, events, get, logs, put, stat, stats, wait
from wherry.api.images import create, distribution, load, log_in, manifest, push, save, search
from wherry.api.request import Request
from wherry.api.system import (
    build_cache,
    disk_usage,
    no_checkpoints,
    no_plugins,
    no_such_plugin,
    no_swarm,
    not_a_manager,
    not_in_a_swarm,
)
from wherry.api.versions import OLDEST, Version
from wherry.engine.engine import Engine

# Gives an answer, or what is to be answered as JSON, or nothing: 204.
Handler = Callable[[Request, Engine], Coroutine[Any, Any, Any]]

ROUTES: dict[str, Handler] = {
    "GET /_ping": system.ping,
    "HEAD /_ping": system.ping,
    "GET /version": system.version,
    "GET /info": system.info,
    "GET /events": events,
    "GET /containers/json": containers.list_all,
    "POST /containers/create": containers.create,
    "GET /containers/{name}/json": containers.inspect,
    "POST /containers/prune": lambda request, engine: engine.prune.containers(request.filters()),
    "POST /containers/{name}/start": containers.start,
    "POST /containers/{name}/stop": containers.stop,
    "POST /containers/{name}/restart": containers.restart,
    "POST /containers/{name}/kill": containers.kill,
    "POST /containers/{name}/pause": lambda request, engine: engine.containers.pause(request.name),
    "POST /containers/{name}/unpause": lambda request, engine: engine.containers.unpause(request.name),
    "POST /containers/{name}/rename": containers.rename,
    "POST /containers/{name}/update": containers.update,
    "POST /containers/{name}/resize": containers.resize,
    "POST /containers/{name}/wait": wait,
    "POST /containers/{name}/attach": attach_streams,
    "GET /containers/{name}/attach/ws": attach_websocket,
    "GET /containers/{name}/logs": logs,
    "GET /containers/{name}/top": lambda request, engine: engine.views.top(request.name, request.text("ps_args")),
    "GET /containers/{name}/changes": containers.changes,
    "GET /containers/{name}/export": containers.export,
    "GET /containers/{name}/stats": stats,
    "HEAD /containers/{name}/archive": stat,
    "GET /containers/{name}/archive": get,
    "PUT /containers/{name}/archive": put,
    "DELETE /containers/{name}": containers.remove,
    "POST /containers/{name}/exec": exec.create,
    "POST /exec/{name}/start": exec.start,
    "POST /exec/{name}/resize": exec.resize,
    "POST /exec/{name}/kill": exec.kill,
    "GET /exec/{name}/json": exec.inspect,
    "POST /commit": images.commit,
    "GET /images/json": images.list_all,
    "GET /images/get": save,
    "POST /images/load": load,
    "POST /images/prune": lambda request, engine: engine.prune.images(request.filters()),
    "POST /images/create": create,
    "GET /images/search": search,
    "POST /images/{name}/push": push,
    "GET /distribution/{name}/json": distribution,
    "GET /distribution/{name}/manifest": manifest,
    "POST /auth": log_in,
    "GET /images/{name}/json": images.inspect,
    "GET /images/{name}/history": images.history,
    "GET /images/{name}/get": save,
    "POST /images/{name}/tag": images.tag,
    "DELETE /images/{name}": images.remove,
    "GET /volumes": volumes.list_all,
    "POST /volumes/create": volumes.create,
    "POST /volumes/prune": volumes.prune,
    "GET /volumes/{name}": lambda request, engine: engine.volumes.inspect(request.name),
    "GET /volumes/{name}/export": volumes.export,
    "POST /volumes/{name}/import": volumes.import_,
    "PUT /volumes/{name}": volumes.update,
    "DELETE /volumes/{name}": volumes.remove,
    "GET /networks/": networks.list_all,
    "GET /networks": networks.list_all,
    "POST /networks/create": networks.create,
    "POST /networks/prune": networks.prune,
    "GET /networks/{name}": networks.inspect,
    "DELETE /networks/{name}": networks.remove,
    "POST /networks/{name}/connect": networks.connect,
    "POST /networks/{name}/disconnect": networks.disconnect,
    "GET /system/df": disk_usage,
    "POST /build": build.build,
    "GET /build/files": build.files,
    "POST /build/given": build.hold,
    "POST /build/export": build_export.export,
    "POST /build/prune": build_cache,
    "GET /plugins": system.plugins,
    "POST /plugins/pull": no_plugins,
    "POST /plugins/create": no_plugins,
    "GET /plugins/privileges": no_plugins,
    "GET /plugins/{name}/json": no_such_plugin,
    "DELETE /plugins/{name}": no_such_plugin,
    "POST /session": grpc.session,
    "POST /grpc": grpc.grpc,
    "GET /containers/{name}/checkpoints": no_checkpoints,
    "POST /containers/{name}/checkpoints": no_checkpoints,
    "POST /swarm/init": no_swarm,
    "POST /swarm/join": no_swarm,
    "POST /swarm/leave": not_in_a_swarm,
}
for _verb in ("enable", "disable", "upgrade", "push", "set"):
    ROUTES[f"POST /plugins/{{name}}/{_verb}"] = no_such_plugin
for _method in ("GET", "POST", "DELETE"):
    for _noun in ("swarm", "services", "nodes", "tasks", "secrets", "configs"):
        ROUTES[f"{_method} /{_noun}"] = ROUTES[f"{_method} /{_noun}/{{name}}"] = not_a_manager

# Ended when their client goes. Anything else that changes state is carried through once it has begun.
ENDED_BY_CLIENT = frozenset(
    (wait, build.build, attach_streams, exec.start, load, create, push, grpc.grpc, grpc.session)
)

# Older clients than others are served here: skopeo up to 1.13, and what copies images as it does, asks by API 1.22.
_COPYING = frozenset((images.inspect, load, save))
_OLDEST_COPYING = Version(1, 22)


class Match(NamedTuple):
    handler: Handler
    name: str
    carried_through: bool
    oldest: Version


def find(method: str, path: str) -> Match | None:
    """The handler of a path without its version, and what ``{name}`` stands for; None when there is no such route."""
    handler = ROUTES.get(f"{method} {path}")
    name = ""
    if handler is None:
        noun, _, rest = path[1:].partition("/")
        name, _, verb = rest.rpartition("/")
        handler = ROUTES.get(f"{method} /{noun}/{{name}}/{verb}") if name else None
        if handler is None and verb == "ws":
            name, _, before = name.rpartition("/")
            handler = ROUTES.get(f"{method} /{noun}/{{name}}/{before}/ws")
        if handler is None and rest:
            name = rest
            handler = ROUTES.get(f"{method} /{noun}/{{name}}")
    if handler is None:
        return None
    carried_through = method != "GET" and handler not in ENDED_BY_CLIENT
    return Match(handler, name.lstrip("/"), carried_through, _OLDEST_COPYING if handler in _COPYING else OLDEST)
