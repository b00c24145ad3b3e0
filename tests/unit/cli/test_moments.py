from collections.abc import Callable

import pytest

from wherry.cli.moments import timestamp

NOW = 1_700_000_000_250_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", ""),
        ("0", "0"),
        ("0s", "1700000000.250000000"),
        ("42m", "1699997480.250000000"),
        ("1.5s", "1699999998.750000000"),
        ("1700000000", "1700000000"),
        ("1700000000.000000001", "1700000000.000000001"),
        ("2013-01-02T13:23:37Z", "1357133017.000000000"),
        ("2013-01-02T13:23:37.123456789Z", "1357133017.123456789"),
        ("2013-01-02T13:23:37+02:00", "1357125817.000000000"),
        ("2013-01-02T13:23:37.5-02:30", "1357142017.500000000"),
        ("2013-01-02T13:23", "1357129380.000000000"),
        ("2013-01-02T13", "1357128000.000000000"),
        ("2013-01-02", "1357081200.000000000"),
    ],
)
def test_moments(zone: Callable[[str], None], text: str, seconds: str) -> None:
    zone("CET-1CEST,M3.5.0,M10.5.0")
    assert timestamp(text, NOW) == seconds


@pytest.mark.parametrize("text", ["x", "2013-13-01", "2013-01-02T13:23:37.xZ", "yesterday"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="failed to parse value as time or duration"):
        timestamp(text)
