"""Health checks: when a probe comes, and what is kept of what it says."""

import struct

import pytest

from wherry.engine.container import health
from wherry.model.container import ContainerConfig, HealthConfig

SECOND = 1_000_000_000


def said(*chunks: bytes) -> str:
    return health._text(bytearray(b"".join(struct.pack(">B3xI", 1, len(chunk)) + chunk for chunk in chunks)))


@pytest.mark.parametrize(
    ("interval", "start_interval", "expected"),
    [
        (SECOND, 0, SECOND),  # Docker 26: the first probe after 1 s
        (8 * SECOND, 0, 5 * SECOND),
        (0, 0, 5 * SECOND),
        (8 * SECOND, 6 * SECOND, 6 * SECOND),
    ],
)
def test_while_it_starts(interval: int, start_interval: int, expected: int) -> None:
    checks = HealthConfig(interval=interval, start_interval=start_interval, start_period=60 * SECOND)
    assert health._interval(checks, starting=True) == expected


@pytest.mark.parametrize(("interval", "expected"), [(0, 30 * SECOND), (8 * SECOND, 8 * SECOND)])
def test_once_it_has_started(interval: int, expected: int) -> None:
    assert health._interval(HealthConfig(interval=interval, start_interval=SECOND), starting=False) == expected


@pytest.mark.parametrize(("period", "warned"), [(0, True), (SECOND, False)])
def test_a_start_interval_needs_a_start_period(period: int, warned: bool) -> None:
    checks = HealthConfig(start_interval=SECOND, start_period=period)
    assert bool(health.warnings(ContainerConfig(healthcheck=checks))) is warned


def test_what_it_says() -> None:
    """As Docker 26 ends it."""
    assert said(b"x" * 4096) == "x" * 4096
    assert said(b"x" * 4000, b"y" * 97) == "x" * 4000 + "y" * 96 + "..."
    assert said(*[b"x"] * 5000) == "x" * 4096 + "..."
    assert said(b"a\xff\xfeb\n") == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b\n"
    assert said(b"x" * 4095 + "é".encode()) == "x" * 4095 + "\N{REPLACEMENT CHARACTER}..."
