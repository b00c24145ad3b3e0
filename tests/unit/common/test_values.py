import pytest

from wherry.common import values

SECOND = 10**9


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
