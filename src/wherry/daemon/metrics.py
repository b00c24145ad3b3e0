"""``--metrics-addr``: what the engine counts, in Prometheus' format and by Docker's names.

Loaded only where it is asked for. What is counted anyway (containers by their state, events) is looked up when somebody
asks; the time that actions take is measured for it.
"""

import asyncio
import os
from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from wherry.api.listen import ListenError
from wherry.api.routes import ROUTES, Match
from wherry.dockerfile.lexer import DockerfileError
from wherry.engine.engine import Engine

# What Docker calls the actions whose time it tells, and by which request they are asked for here.
_ACTIONS = {
    "container": {
        "changes": "GET /containers/{name}/changes",
        "commit": "POST /commit",
        "create": "POST /containers/create",
        "delete": "DELETE /containers/{name}",
        "start": "POST /containers/{name}/start",
    },
    "image": {
        "delete": "DELETE /images/{name}",
        "history": "GET /images/{name}/history",
        "pull": "POST /images/create",
        "push": "POST /images/{name}/push",
    },
    "network": {"connect": "POST /networks/{name}/connect", "release": "POST /networks/{name}/disconnect"},
}
_CANCELED, _SYNTAX, _COMMANDS = "build_canceled", "dockerfile_syntax_error", "error_processing_commands_error"


class Metrics:
    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(_Counts(engine))
        self._timers = {}
        for noun, actions in _ACTIONS.items():
            timer = Histogram(
                f"engine_daemon_{noun}_actions_seconds",
                f"Seconds that actions on {noun}s take",
                ["action"],
                registry=self._registry,
            )
            for action, route in actions.items():
                self._timers[ROUTES[route]] = timer.labels(action)

    def observe(self, match: Match, seconds: float) -> None:
        """A request was answered."""
        timer = self._timers.get(match.handler)
        if timer is not None:
            timer.observe(seconds)

    async def serve(self, address: str) -> asyncio.AbstractServer:
        """``address`` is HOST:PORT. Raises ListenError."""
        host, _, port = address.rpartition(":")
        if not port.isdigit() or int(port) > 65535:
            raise ListenError(f"cannot serve metrics at {address!r}: it is not HOST:PORT")
        try:
            return await asyncio.get_running_loop().create_server(
                web.Server(self._answer, access_log=None), host.strip("[]") or None, int(port)
            )
        except OSError as error:
            raise ListenError(f"cannot serve metrics at {address}: {error.strerror or error}") from None

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.path != "/metrics":
            return web.Response(status=404, text="the metrics are at /metrics\n")
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})


class _Counts(Collector):
    """What the engine knows, at the moment when it is asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        engine, prefix = self._engine, "engine_daemon_"
        info = engine.system.info()
        yield InfoMetricFamily(
            f"{prefix}engine",
            "What this engine is, and the machine that it runs on",
            {
                "architecture": info["Architecture"], "commit": "", "daemon_id": info["ID"],
                "graphdriver": info["Driver"], "kernel": info["KernelVersion"], "os": info["OperatingSystem"],
                "os_type": info["OSType"], "os_version": info["OSVersion"], "version": info["ServerVersion"],
            },
        )  # fmt: skip
        yield GaugeMetricFamily(f"{prefix}engine_cpus_cpus", "Processors of this machine", os.cpu_count())
        yield GaugeMetricFamily(f"{prefix}engine_memory_bytes", "Memory of this machine", info["MemTotal"])
        states = GaugeMetricFamily(f"{prefix}container_states_containers", "Containers by state", labels=["state"])
        for state in ("running", "paused", "stopped"):
            states.add_metric([state], info[f"Containers{state.capitalize()}"])
        yield states
        yield CounterMetricFamily(f"{prefix}events", "Events", engine.events.published)
        yield GaugeMetricFamily(f"{prefix}events_subscribers_total", "Who follows the events", engine.events.listeners)
        checks = engine.health_checks
        yield CounterMetricFamily(f"{prefix}health_checks", "Health checks", checks.ended)
        yield CounterMetricFamily(f"{prefix}health_checks_failed", "Health checks that failed", checks.failed)
        yield CounterMetricFamily("builder_builds_triggered", "Builds that began", engine.builder.begun)
        failures = CounterMetricFamily("builder_builds_failed", "Builds that failed", labels=["reason"])
        for reason, count in self._failures().items():
            failures.add_metric([reason], count)
        yield failures

    def _failures(self) -> dict[str, int]:
        found = dict.fromkeys((_CANCELED, _SYNTAX, _COMMANDS), 0)
        for kind, count in self._engine.builder.failures.items():
            if issubclass(kind, DockerfileError):
                found[_SYNTAX] += count
            else:
                found[_COMMANDS if issubclass(kind, Exception) else _CANCELED] += count
        return found
