"""The keys that leave a container."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.common.detach_keys import DEFAULT, DetachDetector, parse_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", DEFAULT),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a,a", b"\x01a"),
        ("ctrl-@", b"\0"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
        ("DEL", b"\x7f"),
        ("a,b,c", b"abc"),
    ],
)
def test_keys_are_named_as_in_docker(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-pq", "shift-a", "a,,b", "a,", "abc", "é", "ctrl-P"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="Unknown character"):
        parse_keys(text)


def test_the_sequence_is_found_across_pieces() -> None:
    detector = DetachDetector(DEFAULT)
    assert detector.feed(b"ls\x10") == b"ls"
    assert detector.feed(b"\x11rm") == b""
    assert detector.complete
    assert detector.feed(b"more") == b""


def test_a_sequence_that_turns_into_another_is_passed_on() -> None:
    detector = DetachDetector(DEFAULT)
    assert detector.feed(b"\x10") == b""
    assert detector.feed(b"x") == b"\x10x"
    assert not detector.complete


def test_a_sequence_that_begins_anew_within_itself() -> None:
    detector = DetachDetector(b"aab")
    assert [detector.feed(bytes((byte,))) for byte in b"aaab"] == [b"", b"", b"a", b""]
    assert detector.complete


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=4), st.data())
def test_pieces_make_no_difference(text: bytes, keys: bytes, data: st.DataObject) -> None:
    detector, passed, at = DetachDetector(keys), b"", 0
    while at < len(text):
        size = data.draw(st.integers(1, len(text) - at))
        passed += detector.feed(text[at : at + size])
        at += size
    before, found, _ = text.partition(keys)
    assert detector.complete == bool(found)
    if found:
        assert passed == before
    else:
        assert text.startswith(passed)
        assert keys.startswith(text[len(passed) :])
