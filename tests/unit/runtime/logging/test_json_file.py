"""Docker's log format: what is written at once, what must be escaped, and what is read back."""

import json

import pytest

from wherry.runtime.logging.json_file import LINE_AT_MOST, cut, decode, encode, middle_of, records

AT = 1_700_000_000_123_456_789
END = '","stream":"stdout","time":"2023-11-14T22:13:20.123456789Z"}\n'


def lines(block: bytes, at: int = AT, stream: str = "stdout", **attrs: str) -> bytes:
    return encode(block, middle_of(stream, attrs), at)


def read_back(content: bytes) -> list[tuple[int, int, bytes]]:
    return [tuple(record) for _, record in records(lambda offset, count: content[offset : offset + count], 0)]


def test_many_lines_and_the_beginning_of_another() -> None:
    assert lines(b"one\n\ntwo").decode() == f'{{"log":"one\\n{END}{{"log":"\\n{END}{{"log":"two{END}'


@pytest.mark.parametrize(
    ("text", "expected"),  # what Docker 20.10 writes
    [
        (b"\x01\x7f\x08\x0c\t\r<>&", "\\u0001\x7f\\u0008\\u000c\\u0009\\r\\u003c\\u003e\\u0026"),
        (b"\xff\xfe\xe2\x82 ", "\\ufffd" * 4 + " "),
        (b"\xed\xa0\x80 \xc0\x80 \xf4\x90\x80\x80", " ".join("\\ufffd" * count for count in (3, 2, 4))),
        ("😀 \u2028\u2029\ufffd".encode(), "😀 \\u2028\\u2029\ufffd"),
        (b'"\\/\\n', '\\"\\\\/\\\\n'),
    ],
)
def test_escapes(text: bytes, expected: str) -> None:
    assert lines(text).decode() == f'{{"log":"{expected}{END}'


def test_every_byte_comes_back() -> None:
    block = bytes(range(128)) * 3 + "é\u2028😀\n".encode() * 100
    assert read_back(lines(block)) == [(1, AT, block)]


def test_lines_of_several_writes_are_kept_apart() -> None:
    content = (
        lines(b"one\ntwo\n") + lines(b"three\n", AT + 1) + lines(b"four\nfi", AT + 2, "stderr") + lines(b"x", AT + 3)
    )
    assert read_back(content) == [
        (1, AT, b"one\ntwo\n"), (1, AT + 1, b"three\n"), (2, AT + 2, b"four\nfi"), (1, AT + 3, b"x")
    ]  # fmt: skip


def test_a_text_that_looks_like_the_format() -> None:
    block = (END.encode() + b'{"log":"forged') * 3 + b"\\\n"
    assert read_back(lines(block)) == [(1, AT, block)]
    assert all(json.loads(line)["stream"] == "stdout" for line in lines(block).splitlines())


def test_attributes_that_look_like_the_format() -> None:
    content = lines(b"one\ntwo\n", stream='x","stream":"', time="<\n")
    assert read_back(content) == [(1, AT, b"one\ntwo\n")]


def test_the_same_ending_around_something_else() -> None:
    content = lines(b"one\n") + b"rubbish\n" + lines(b"two\n")
    assert [record[2] for record in read_back(content)] == [b"one\n", b"two\n"]


def test_a_line_that_is_not_whole_yet_waits() -> None:
    content = lines(b"one\n") + lines(b"two\n", AT + 1)
    assert [record[2] for record in read_back(content[:-5])] == [b"one\n"]
    assert decode(content[-40:]) is None


@pytest.mark.parametrize("length", [0, 1, LINE_AT_MOST, LINE_AT_MOST + 1, 3 * LINE_AT_MOST + 7])
def test_long_lines_are_cut(length: int) -> None:
    block = b"a\n" + b"x" * length + b"\nb\n"
    parts = list(cut(block))
    assert b"".join(parts) == block
    assert all(len(line) <= LINE_AT_MOST for part in parts for line in part.split(b"\n"))
    assert len(parts) == (1 if length <= LINE_AT_MOST else length // LINE_AT_MOST + 2)
