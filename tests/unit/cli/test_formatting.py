"""Tables, sizes, durations and times."""

from collections.abc import Callable

import pytest

from wherry.cli import table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    text = "NAME\tSTATUS\tPORTS\na-rather-long-name\tup\t\nb\texited\t80/tcp\n"
    assert table.table(text) == (
        "NAME                 STATUS    PORTS\na-rather-long-name   up        \nb                    exited    80/tcp\n"
    )


def test_a_column_ends_with_the_lines_that_have_it() -> None:
    """A line with fewer cells begins the columns behind it anew, as in Go's tabwriter."""
    text = "a\tb\nlonger-than-ten\tc\nalone\nx\ty\n"
    assert table.table(text) == "a                 b\nlonger-than-ten   c\nalone\nx         y\n"


def test_wide_characters_take_two_places() -> None:
    assert table.table("舟\tx\nabcdefghij\ty\n") == "舟           x\nabcdefghij   y\n"


@pytest.mark.parametrize(
    ("size", "three", "four", "binary"),
    [
        (0, "0B", "0B", "0B"),
        (999, "999B", "999B", "999B"),
        (1_000, "1kB", "1kB", "1000B"),
        (1_982_312, "1.98MB", "1.982MB", "1.89MiB"),
        (116_999_999, "117MB", "117MB", "111.6MiB"),
        (999_999, "1e+03kB", "1000kB", "976.6KiB"),
        (25_276_514_304, "25.3GB", "25.28GB", "23.54GiB"),
        (-1, "-1B", "-1B", "-1B"),
    ],
)
def test_sizes(size: int, three: str, four: str, binary: str) -> None:
    assert table.human_size(size, 3) == three
    assert table.human_size(size) == four
    assert table.binary_size(size) == binary


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
        (730 * DAY, "2 years"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert table.human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("sleep 100000", 20, "sleep 100000"),
        ("12345678901234567890", 20, "12345678901234567890"),
        ("123456789012345678901", 20, "1234567890123456789…"),
        ("舟舟舟舟", 6, "舟舟…"),
        ("", 5, ""),
    ],
)
def test_what_is_long_is_cut(text: str, width: int, shown: str) -> None:
    assert table.ellipsis(text, width) == shown


def test_short_ids() -> None:
    assert table.short_id("sha256:8849ba2e7c0d13d0d4cf") == "8849ba2e7c0d"
    assert table.short_id("8849ba2e7c0d13d0d4cf") == "8849ba2e7c0d"
    assert table.short_id("8849") == "8849"


def test_times_are_local(zone: Callable[[str], None]) -> None:
    zone("IST-5:30")
    assert table.local_time(1_700_000_000) == "2023-11-15 03:43:20 +0530 IST"
    assert table.rfc3339(1_700_000_000, 5) == "2023-11-15T03:43:20.000000005+05:30"
    zone("UTC")
    assert table.rfc3339(1_700_000_000) == "2023-11-14T22:13:20Z"
    assert table.local_time(-62135596800) == "0001-01-01 00:00:00 +0000 UTC"
