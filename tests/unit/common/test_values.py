import pytest

from wherry.common import values

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
    assert values.parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "-", "5", "5x", "s", ".s", "1..5s", "1 s", "1e3s", "9999999999h", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="time: "):
        values.parse_duration(text)


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
    assert values.parse_size(text) == count


@pytest.mark.parametrize("text", ["", "x", "1x", "1kk", "1kbb", "1bb", "-1k", "1kib ", "inf", "nan", "0x10"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        values.parse_size(text)


@pytest.mark.parametrize(
    ("text", "nano"), [("1", SECOND), ("1.5", 3 * SECOND // 2), (".25", SECOND // 4), ("3/2", 1_500_000_000)]
)
def test_cpus(text: str, nano: int) -> None:
    assert values.parse_cpus(text) == nano


@pytest.mark.parametrize("text", ["", "x", "1/0", " 1", "1.0000000001"])
def test_what_is_no_number_of_cpus(text: str) -> None:
    with pytest.raises(ValueError):
        values.parse_cpus(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("10", 10), ("-10", -10), ("+1", 1), ("0x1F", 31), ("010", 8), ("0o10", 8), ("0b11", 3), ("0", 0)],
)
def test_integers(text: str, number: int) -> None:
    assert values.parse_int(text, base=0) == number


@pytest.mark.parametrize("text", ["", "x", " 1", "1 ", "--1", "1.0", "٣", "09", str(1 << 63)])
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(ValueError, match=r"strconv.ParseInt: parsing"):
        values.parse_int(text, base=0)


def test_octal_with_a_base() -> None:
    assert values.parse_unsigned("1770", 32, base=8) == 0o1770
    with pytest.raises(ValueError):
        values.parse_unsigned("-1")


@pytest.mark.parametrize(
    ("text", "literal"),
    [("a", '"a"'), ('a"b\\', '"a\\"b\\\\"'), ("\n\t\x00", '"\\n\\t\\x00"'), ("é", '"é"'), ("\u200b", '"\\u200b"')],
)
def test_quoting(text: str, literal: str) -> None:
    assert values.quoted(text) == literal
