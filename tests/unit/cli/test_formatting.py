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
