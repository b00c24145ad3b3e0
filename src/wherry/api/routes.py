"""Which request goes to which handler: the table, and how a path is looked up in it.

A ``{name}`` may hold slashes ("/images/library/debian/json"), so paths are matched from both their ends.
"""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from wherry.api import (
    absent,
    archive,
    attach,
    build,
    containers,
    execs,
    following,
    image_tars,
    images,
    networks,
    prune,
    registry,
    system,
    volumes,
)
from wherry.api.request import Request
from wherry.api.versions import OLDEST, Version
from wherry.engine.engine import Engine

# Gives an answer, or what is to be answered as JSON, or nothing: 204.
Handler = Callable[[Request, Engine], Coroutine[Any, Any, Any]]

ROUTES: dict[str, Handler] = {
    "GET /_ping": system.ping,
    "HEAD /_ping": system.ping,
    "GET /version": system.version,
    "GET /info": system.info,
    "GET /events": following.events,
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
    "POST /containers/{name}/wait": following.wait,
    "POST /containers/{name}/attach": attach.attach,
    "GET /containers/{name}/attach/ws": attach.attach_websocket,
    "GET /containers/{name}/logs": following.logs,
    "GET /containers/{name}/top": lambda request, engine: engine.views.top(request.name, request.text("ps_args")),
    "GET /containers/{name}/changes": containers.changes,
    "GET /containers/{name}/export": containers.export,
    "GET /containers/{name}/stats": following.stats,
    "HEAD /containers/{name}/archive": archive.stat,
    "GET /containers/{name}/archive": archive.get,
    "PUT /containers/{name}/archive": archive.put,
    "DELETE /containers/{name}": containers.remove,
    "POST /containers/{name}/exec": execs.create,
    "POST /exec/{name}/start": execs.start,
    "POST /exec/{name}/resize": execs.resize,
    "GET /exec/{name}/json": execs.inspect,
    "POST /commit": images.commit,
    "GET /images/json": images.list_all,
    "GET /images/get": image_tars.save,
    "POST /images/load": image_tars.load,
    "POST /images/prune": lambda request, engine: engine.prune.images(request.filters()),
    "POST /images/create": image_tars.create,
    "GET /images/search": registry.search,
    "POST /images/{name}/push": registry.push,
    "GET /distribution/{name}/json": registry.distribution,
    "GET /distribution/{name}/manifest": registry.manifest,
    "POST /auth": registry.log_in,
    "GET /images/{name}/json": images.inspect,
    "GET /images/{name}/history": images.history,
    "GET /images/{name}/get": image_tars.save,
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
    "GET /networks": networks.list_all,
    "POST /networks/create": networks.create,
    "POST /networks/prune": networks.prune,
    "GET /networks/{name}": networks.inspect,
    "DELETE /networks/{name}": networks.remove,
    "POST /networks/{name}/connect": networks.connect,
    "POST /networks/{name}/disconnect": networks.disconnect,
    "GET /system/df": prune.disk_usage,
    "POST /build": build.build,
    "GET /build/files": build.files,
    "POST /build/given": build.hold,
    "POST /build/prune": prune.build_cache,
    "GET /plugins": system.plugins,
    "POST /plugins/pull": absent.no_plugins,
    "POST /plugins/create": absent.no_plugins,
    "GET /plugins/privileges": absent.no_plugins,
    "GET /plugins/{name}/json": absent.no_such_plugin,
    "DELETE /plugins/{name}": absent.no_such_plugin,
    "POST /session": absent.no_buildkit,
    "POST /grpc": absent.no_buildkit,
    "GET /containers/{name}/checkpoints": absent.no_checkpoints,
    "POST /containers/{name}/checkpoints": absent.no_checkpoints,
    "POST /swarm/init": absent.no_swarm,
    "POST /swarm/join": absent.no_swarm,
    "POST /swarm/leave": absent.not_in_a_swarm,
}
for _verb in ("enable", "disable", "upgrade", "push", "set"):
    ROUTES[f"POST /plugins/{{name}}/{_verb}"] = absent.no_such_plugin
for _method in ("GET", "POST", "DELETE"):
    for _noun in ("swarm", "services", "nodes", "tasks", "secrets", "configs"):
        ROUTES[f"{_method} /{_noun}"] = ROUTES[f"{_method} /{_noun}/{{name}}"] = absent.not_a_manager

# Ended when their client goes. Anything else that changes state is carried through once it has begun.
ENDED_BY_CLIENT = frozenset(
    (following.wait, build.build, attach.attach, execs.start, image_tars.load, image_tars.create, registry.push)
)

# Older clients than others are served here: skopeo up to 1.13, and what copies images as it does, asks by API 1.22.
_COPYING = frozenset((images.inspect, image_tars.load, image_tars.save))
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
