"""Points in time, as Go prints and reads them."""

import pytest

from wherry.engine import clock


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (1_700_000_000_000_000_000, "2023-11-14T22:13:20Z"),
        (1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z"),
        (1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z"),
    ],
)
def test_rfc3339_there_and_back(nanoseconds: int, text: str) -> None:
    assert clock.rfc3339(nanoseconds) == text
    if nanoseconds:
        assert clock.parse_rfc3339(text) == nanoseconds


def test_a_zone_is_understood() -> None:
    assert clock.parse_rfc3339("2023-11-15T00:13:20.5+02:00") == 1_700_000_000_500_000_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (86400 * 3, "3 days"),
        (86400 * 15, "2 weeks"),
        (86400 * 70, "2 months"),
        (86400 * 365 * 3, "3 years"),
    ],
)
def test_human_durations(seconds: int, text: str) -> None:
    assert clock.human_duration(seconds * 1_000_000_000) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (17, "17ns"),
        (1500, "1.5µs"),
        (300_000_000, "300ms"),
        (1_000_000_000, "1s"),
        (1_500_000_000, "1.5s"),
        (90_000_000_000, "1m30s"),
        (3_600_000_000_000, "1h0m0s"),
    ],
)
def test_durations_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert clock.go_duration(nanoseconds) == text
