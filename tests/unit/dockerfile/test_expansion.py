"""All forms of variables, quotes and escapes, and shell patterns against Python's regular expressions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.dockerfile.expansion import ShellPattern, expand, expand_words
from wherry.dockerfile.lexer import DockerfileError

VARIABLES = {
    "name": "world",
    "empty": "",
    "path": "/usr/local/lib/libz.so.1",
    "stars": "a*b*c",
    "question": "???y",
    "two": "b  c",
    "quoted": "it's",
    "pattern": "*/",
    "größe": "groß",
}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$name", "world"),
        ("${name}", "world"),
        ("a$name.b", "aworld.b"),
        ("$name$name", "worldworld"),
        ("$unset", ""),
        ("a${unset}b", "ab"),
        ("$größe", "groß"),
        ("$", "$"),
        ("$.", "$."),
        ("a$", "a$"),
        # Positional and special parameters are never set.
        ("$1x", "x"),
        ("$12x", "x"),
        ("$@x", "x"),
        ("$#", ""),
        ("${#}", ""),
        ("${1:-x}", "x"),
        ("${@:+x}", ""),
        # Defaults.
        ("${name:-x}", "world"),
        ("${empty:-x}", "x"),
        ("${unset:-x}", "x"),
        ("${name-x}", "world"),
        ("${empty-x}", ""),
        ("${unset-x}", "x"),
        ("${unset:-}", ""),
        ("${unset:-$name}", "world"),
        ("${unset:-${other:-${name}}}", "world"),
        ("${unset:-a b}", "a b"),
        ("${unset:-'}'}", "}"),
        ("${unset:-\\}}", "}"),
        ("${unset:-{x}", "{x"),
        ("${name}}", "world}"),
        # Alternatives.
        ("${name:+x}", "x"),
        ("${empty:+x}", ""),
        ("${unset:+x}", ""),
        ("${name+x}", "x"),
        ("${empty+x}", "x"),
        ("${unset+x}", ""),
        ("${name:+${empty:-y}}", "y"),
        # Errors that do not come.
        ("${name:?no}", "world"),
        ("${empty?no}", ""),
        # Beginnings.
        ("${path#/usr}", "/local/lib/libz.so.1"),
        ("${path#*/}", "usr/local/lib/libz.so.1"),
        ("${path##*/}", "libz.so.1"),
        ("${path#usr}", "/usr/local/lib/libz.so.1"),
        ("${path##*}", ""),
        ("${path#*}", "/usr/local/lib/libz.so.1"),
        ("${path#}", "/usr/local/lib/libz.so.1"),
        ("${path#/???/}", "local/lib/libz.so.1"),
        ("${path#$pattern}", "usr/local/lib/libz.so.1"),
        ("${path##${pattern}}", "libz.so.1"),
        ("${stars#a\\*}", "b*c"),
        ("${question#?\\?}", "?y"),
        ("${unset#x}", ""),
        # Ends.
        ("${path%.*}", "/usr/local/lib/libz.so"),
        ("${path%%.*}", "/usr/local/lib/libz"),
        ("${path%/*}", "/usr/local/lib"),
        ("${path%%/*}", ""),
        ("${path%x}", "/usr/local/lib/libz.so.1"),
        ("${stars%%\\**}", "a"),
        ("${stars%\\*c}", "a*b"),
        # Replacements.
        ("${path/lib/x}", "/usr/local/x/libz.so.1"),
        ("${path//lib/x}", "/usr/local/x/xz.so.1"),
        ("${path/lib/}", "/usr/local//libz.so.1"),
        ("${path//\\//.}", ".usr.local.lib.libz.so.1"),
        ("${path/u*l/-}", "/-ibz.so.1"),
        ("${path//l?/_}", "/usr/_ca__b/_bz.so.1"),
        ("${path/nothing/x}", "/usr/local/lib/libz.so.1"),
        ("${name/$unset/x}", "xworld"),
        ("${name//$unset/-}", "-w-o-r-l-d-"),
        ("${name//*/x}", "x"),
        ("${name//o/$name}", "wworldrld"),
        ("${unset/a/b}", ""),
        # Quotes.
        ("'$name'", "$name"),
        ('"$name"', "world"),
        ('"it\'s"', "it's"),
        ("'a'\"b\"c", "abc"),
        ('"a  b"', "a  b"),
        ("''", ""),
        ("$quoted", "it's"),
        ('"${unset:-"x y"}"', "x y"),
        # Escapes.
        ("\\$name", "$name"),
        ("\\${name}", "${name}"),
        ("\\\\$name", "\\world"),
        ("a\\ b", "a b"),
        ("a\\tb", "atb"),
        ('"a\\tb"', "a\\tb"),
        ('"\\$name \\" \\\\"', '$name " \\'),
        ("'a\\'", "a\\"),
        ("a\\", "a"),
        ("<<EOF", "<<EOF"),
        ("a << b < c", "a << b < c"),
    ],
)
def test_expand(word: str, expected: str) -> None:
    assert expand(word, VARIABLES) == expected


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("${", "missing '}' after"),
        ("${name", "missing '}' after \\${name"),
        ("${name:-x", "missing '}' in the substitution of \\${name"),
        ("${}", "bad substitution"),
        ("${:-x}", "bad substitution"),
        ("${{name}", "bad substitution"),
        ("${.}", "unsupported modifier"),
        ("${name=x}", "unsupported modifier \\(=\\) in substitution of \\${name"),
        ("${name:=x}", "unsupported modifier \\(:=\\)"),
        ("${name:x}", "unsupported modifier \\(:x\\)"),
        ("${name:#x}", "unsupported modifier"),
        ("${name^}", "unsupported modifier"),
        ("${unset?}", "unset: is not allowed to be unset"),
        ("${unset:?}", "unset: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        ("${unset?please set it}", "unset: please set it"),
        ("${empty:?for $name}", "empty: for world"),
        ("${name#a\\b}", "name: invalid pattern \\(a\\\\b\\) in substitution: invalid escape"),
        ("${name/x", "missing '/' in the substitution of \\${name"),
        ("${name//x}", "missing '/'"),
        ("${name/x/y", "missing '}'"),
        ("'a", "looking for matching single-quote"),
        ('"a', "looking for matching double-quote"),
        ('"$name', "looking for matching double-quote"),
        ("${unset:-'}", "looking for matching single-quote"),
        ("${a:-" * 60 + "}" * 60, "nested more than 50 deep"),
    ],
)
def test_errors(word: str, reason: str) -> None:
    with pytest.raises(DockerfileError, match=reason) as caught:
        expand(word, VARIABLES)
    assert word[:200] in caught.value.reason


def test_a_result_has_a_limit() -> None:
    huge = {"x": "a" * (1 << 20)}
    for word in ("$x" * 20, "${x//a/$x}"):
        with pytest.raises(DockerfileError, match="longer than 16 MiB"):
            expand(word, huge)


def test_another_escape_character() -> None:
    assert expand("c:\\$name `$name", VARIABLES, escape="`") == "c:\\world $name"


def test_text_without_quotes() -> None:
    text = 'it\'s "$name" \\$name \\\\'
    assert expand(text, VARIABLES, quotes=False) == 'it\'s "world" $name \\'


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("", []),
        ("a", ["a"]),
        ("$two", ["b", "c"]),
        ("a${two}d", ["ab", "cd"]),
        ('a"$two"d', ["ab  cd"]),
        ("a\\ b", ["a b"]),
        ("'a b' c", ["a b", "c"]),
        ("$unset", []),
        ('""', []),
        ("a${unset:-x}b", ["axb"]),
    ],
)
def test_words(word: str, expected: list[str]) -> None:
    assert expand_words(word, VARIABLES) == expected


PATTERNS = st.text(alphabet="ab*?", max_size=8)
TEXTS = st.text(alphabet="abc", max_size=12)


def _regex(pattern: str, *, longest: bool) -> str:
    star = ".*" if longest else ".*?"
    return "".join(star if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)


@given(PATTERNS, TEXTS, st.booleans())
def test_prefixes_as_regular_expressions_find_them(pattern: str, text: str, longest: bool) -> None:
    match = re.match(_regex(pattern, longest=longest), text)
    expected = text[match.end() :] if match else text
    assert ShellPattern(pattern).without_prefix(text, longest=longest) == expected


@given(PATTERNS, TEXTS, st.booleans())
def test_suffixes_as_regular_expressions_find_them(pattern: str, text: str, longest: bool) -> None:
    match = re.match(_regex(pattern[::-1], longest=longest), text[::-1])
    expected = text[: len(text) - match.end()] if match else text
    assert ShellPattern(pattern).without_suffix(text, longest=longest) == expected


@given(PATTERNS, TEXTS)
def test_matches_as_regular_expressions_find_them(pattern: str, text: str) -> None:
    match = re.search(_regex(pattern, longest=True), text)
    assert ShellPattern(pattern).find(text) == (match.span() if match else None)


@given(st.text(alphabet="${}:-+?#%/*\\'\"<a b`", max_size=60), st.sampled_from("\\`"))
def test_any_word_is_expanded_or_refused(word: str, escape: str) -> None:
    try:
        expand(word, {"a": "b b"}, escape=escape)
        expand_words(word, {"a": "b b"}, escape=escape)
    except DockerfileError as error:
        assert error.reason


def test_work_grows_with_the_length_alone() -> None:
    """Patterns that ruin a backtracking matcher: done at once, or not in a lifetime."""
    text = "a" * 20_000
    assert expand("${x##*a*a*a*a*a*a*a*b}", {"x": text}) == text
    assert expand("${x%%b*a*a*a*a*a*a*a*}", {"x": text}) == text
    assert expand("${x//a*a*a*a*a*b/c}", {"x": text}) == text
