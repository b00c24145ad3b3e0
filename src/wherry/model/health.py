"""How a container's health check went."""

import enum

import msgspec


class HealthStatus(enum.StrEnum):
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class HealthResult(msgspec.Struct):
    """One probe. Times are nanoseconds since the epoch; ``output`` is the beginning of what it printed."""

    start: int
    end: int
    exit_code: int
    output: str


class Health(msgspec.Struct):
    """``log`` holds the last probes, the latest last."""

    status: HealthStatus = HealthStatus.STARTING
    failing_streak: int = 0
    log: list[HealthResult] = []
