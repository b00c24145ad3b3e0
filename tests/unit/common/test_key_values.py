"""Lists of key=value, in the grammar of Go's encoding/csv, and its words."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.common import key_values


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (",", ["", ""]),
        ("a,", ["a", ""]),
        ('"a,b",c', ["a,b", "c"]),
        ('"a""b"', ['a"b']),
        ('""', [""]),
        (" a , b", [" a ", " b"]),
    ],
)
def test_fields(text: str, found: list[str]) -> None:
    assert key_values.fields(text) == found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "EOF"),
        ('a"b', 'parse error on line 1, column 2: bare " in non-quoted-field'),
        ('x,"a', 'parse error on line 1, column 5: extraneous or missing " in quoted-field'),
        ('"a"b', 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
    ],
)
def test_what_is_no_line(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        key_values.fields(text)
    assert str(caught.value) == error


def test_pairs() -> None:
    text = 'Type=bind,"src=/a,b",ro,opt=a=b,empty='
    assert list(key_values.pairs(text, ("ro",))) == [
        ("type", "bind", "Type=bind"),
        ("src", "/a,b", "src=/a,b"),
        ("ro", "true", "ro"),
        ("opt", "a=b", "opt=a=b"),
        ("empty", "", "empty="),
    ]
    with pytest.raises(ValueError, match=r"^invalid field 'rw' must be a key=value pair$"):
        list(key_values.pairs("type=bind,rw", ("ro",)))


_FIELD = st.text(st.sampled_from('ab=," é'), max_size=6)


@given(st.lists(_FIELD, min_size=1, max_size=5).filter(lambda fields: fields != [""]))
def test_whatever_is_quoted_is_found_again(fields: list[str]) -> None:
    quoted = [f'"{field.replace(chr(34), chr(34) * 2)}"' if set('",') & set(field) else field for field in fields]
    assert key_values.fields(",".join(quoted)) == fields


@given(st.text(st.sampled_from('ab=,"'), max_size=10))
def test_any_text_is_refused_or_what_another_reader_finds(text: str) -> None:
    try:
        found = key_values.fields(text)
    except ValueError:
        return
    assert found == next(csv.reader([text], strict=True))
