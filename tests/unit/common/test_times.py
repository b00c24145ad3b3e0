"""Times: what Go and go-units read and print."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.common import times
from wherry.common.errors import InvalidParameter
from wherry.common.times import query_time

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1s", SECOND),
        ("-1.5h", -5400 * SECOND),
        ("+5s", 5 * SECOND),
        ("1m30s", 90 * SECOND),
        ("300ms", 300_000_000),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("1us2µs3ns", 3003),
        ("1.000000001s", SECOND + 1),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert times.parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "-", "5", "5x", "s", ".s", "1..5s", "1 s", "1e3s", "9999999999h", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="time: "):
        times.parse_duration(text)


@given(st.integers(-(1 << 62), 1 << 62))
def test_a_duration_that_is_printed_is_read_again(nanoseconds: int) -> None:
    assert times.parse_duration(times.format_duration(nanoseconds)) == nanoseconds


@given(st.text(st.sampled_from("0123456789.-+hmsnuµ x"), max_size=10))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert abs(times.parse_duration(text)) < 1 << 63
    except ValueError as error:
        assert str(error).startswith("time: ")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (17, "17ns"),
        (1500, "1.5µs"),
        (1_234_567, "1.234567ms"),
        (-90_000_000_001, "-1m30.000000001s"),
        (300_000_000, "300ms"),
        (1_000_000_000, "1s"),
        (1_500_000_000, "1.5s"),
        (90_000_000_000, "1m30s"),
        (3_600_000_000_000, "1h0m0s"),
    ],
)
def test_durations_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert times.format_duration(nanoseconds) == text


HOUR, DAY = 3600, 24 * 3600


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second"),
        (0.9, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (59 * 60 + 59, "59 minutes"),
        (HOUR, "About an hour"),
        (1.4 * HOUR, "About an hour"),
        (1.5 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (729.97 * DAY, "24 months"),
        (729.99 * DAY, "1 years"),  # go-units rounds the hours once, and once it does not
        (730 * DAY, "2 years"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert times.human_duration(seconds) == text


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
    assert times.rfc3339(nanoseconds) == text
    if nanoseconds:
        assert times.parse_rfc3339(text) == nanoseconds


def test_a_zone_is_understood() -> None:
    assert times.parse_rfc3339("2023-11-15T00:13:20.5+02:00") == 1_700_000_000_500_000_000


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
def test_points_in_time(zone: Callable[[str], None], text: str, seconds: str) -> None:
    zone("CET-1CEST,M3.5.0,M10.5.0")
    assert query_time(text, NOW) == seconds


@pytest.mark.parametrize("text", ["x", "2013-13-01", "2013-01-02T13:23:37.xZ", "yesterday"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(InvalidParameter, match="failed to parse value as time or duration"):
        query_time(text)


# What the engine's own tests of Docker say: UTC, and 2020-01-02T03:04:05.123456789Z is now.
@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("2006-01-02T15:04:05.999999999+07:00", "2006-01-02T08:04:05.999999999Z"),
        ("2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05.999999999Z"),
        ("2006-01-02T15:04:05", "2006-01-02T15:04:05Z"),
        ("2006-01-02T15:04Z", "2006-01-02T15:04:00Z"),
        ("2006-01-02T15:04-00:00", "2006-01-02T15:04:00Z"),
        ("2006-01-02T15+00:00", "2006-01-02T15:00:00Z"),
        ("2006-01-02T1Z", "2006-01-02T01:00:00Z"),
        ("2006-01-02+00:00", "2006-01-02T00:00:00Z"),
        ("2006-01-02-00:01", "2006-01-02T00:01:00Z"),
        ("2006-01-02Z", "2006-01-02T00:00:00Z"),
        ("1136073600", "2006-01-01T00:00:00Z"),
        ("1136073600.000000001", "2006-01-01T00:00:00.000000001Z"),
        ("1136073600.0000000009", "2006-01-01T00:00:00Z"),
        ("1136073600.", "2006-01-01T00:00:00Z"),
        ("1m", "2020-01-02T03:03:05.123456789Z"),
        ("1h30m", "2020-01-02T01:34:05.123456789Z"),
        *((text, None) for text in ("2006-01-02T15:04:0Z", "2006-01-02T15:0", "2006-01-02TZ", "2006-01-02T", "")),
        *((text, None) for text in (" 1136073600 \t", "foo.bar", "1136073600.bar", "invalid", ".0000000009", "9" * 99)),
        *((text, None) for text in ("2006-13-02", "2006-02-30", "2006-01-02T24:00", "2006-01-02T1:4.5", "٢006-01-02")),
    ],
)
def test_like_dockers_engine(zone: Callable[[str], None], text: str, point: str | None) -> None:
    zone("UTC")
    now = times.parse_rfc3339("2020-01-02T03:04:05.123456789Z")
    if point is not None:
        assert times.rfc3339(times.parse_timestamp(text, now)) == point
    else:
        with pytest.raises(InvalidParameter):
            times.parse_timestamp(text, now)


@given(st.text(st.sampled_from("0123456789-:TZ.+hm"), max_size=24))
def test_any_text_is_a_point_in_time_or_refused(text: str) -> None:
    try:
        times.parse_timestamp(text)
    except InvalidParameter as error:
        assert error.message.startswith("failed to parse value as time or duration")
