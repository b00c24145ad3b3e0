"""Sizes, as github.com/docker/go-units reads and prints them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.common.sizes import binary_size, human_size, parse_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("512", 512),
        ("1k", 1024),
        ("1.5KiB", 1536),
        ("2 mb", 2 << 20),
        ("1G", 1 << 30),
        ("3b", 3),
        ("1p", 1 << 50),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "text", ["", "x", "1x", "1kk", "1kbb", "1bb", "-1k", "1kib ", "1e309", "9e18k", "8e18p", "inf", "nan", "0x10"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


def test_the_options_of_logs_count_in_thousands() -> None:
    assert [parse_size(text, 1000) for text in ("10m", "1.5KiB", "2 gb")] == [10_000_000, 1500, 2_000_000_000]


@given(st.integers(0, 1 << 22), st.sampled_from([(1024, ""), (1024, "k"), (1000, "mb"), (1000, "GiB"), (1024, "T")]))
def test_any_number_of_any_unit(number: int, unit: tuple[int, str]) -> None:
    kilo, suffix = unit
    size = parse_size(f"{number}{suffix}", kilo)
    assert size == int(float(number) * kilo ** " kmgt".index(suffix[:1].lower() or " "))


@given(st.text(st.sampled_from("0123456789.-+eEkKmMbBiI x"), max_size=8))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except ValueError as error:
        assert "invalid" in str(error)


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
def test_printed(size: int, three: str, four: str, binary: str) -> None:
    assert human_size(size, 3) == three
    assert human_size(size) == four
    assert binary_size(size) == binary
