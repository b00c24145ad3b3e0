"""Patterns of .dockerignore, a table of them, and a plain matcher to compare with."""

import re
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.common.ignore import InvalidPattern, PatternMatcher
from wherry.common.values import clean_path


@pytest.mark.parametrize(
    ("patterns", "ignored", "kept"),
    [
        ("a", ["a", "a/b", "a/b/c"], ["b", "ab", "b/a", "aa/b"]),
        ("/a", ["a", "a/b"], ["b/a"]),
        ("a/", ["a", "a/b"], ["ab"]),
        ("./a/../b//c", ["b/c", "b/c/d"], ["b", "a", "c"]),
        ("  a  ", ["a"], ["b"]),
        ("a b", ["a b"], ["a"]),
        ("a\nb", ["a", "b"], ["c"]),
        ("# a\n#b", [], ["# a", "a", "#b", "b"]),
        (" #a", ["#a"], ["a"]),
        ("\ufeffa", ["a"], []),
        ("a\r\nb\r\n", ["a", "b"], ["c"]),
        (".", [], ["a", "a/b"]),
        ("/", [], ["a"]),
        ("..", [], ["a"]),
        # A star stays in a name.
        ("*", ["a", ".a", "a/b"], []),
        ("*.o", ["a.o", ".o", "a.o/b"], ["a.oo", "b/a.o", "ao"]),
        ("a/*.o", ["a/b.o"], ["a/b/c.o", "b.o"]),
        ("*/b", ["a/b", "a/b/c"], ["b", "a/c/b"]),
        ("*/*/b", ["a/a/b"], ["a/b", "b"]),
        ("a*b*c", ["abc", "aXbXc", "abcbc", "abc/d"], ["ab", "aXb/c", "abcd"]),
        ("a?", ["ab", "ab/c"], ["a", "abc", "a/"]),
        ("a.b", ["a.b"], ["aXb"]),
        ("a+(b)|{c}^$", ["a+(b)|{c}^$"], ["a"]),
        # Two stars are any directories.
        ("**", ["a", "a/b"], []),
        ("**/", ["a", "a/b"], []),
        ("**/a", ["a", "b/a", "b/c/a", "b/a/c"], ["ba", "b/ba"]),
        ("**/*.o", ["a.o", "b/a.o", "c/b/a.o"], ["a.c"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b/a/c"]),
        ("a/**/b", ["a/b", "a/c/b", "a/c/d/b", "a/c/b/d"], ["a", "b", "a/c", "ab"]),
        ("a/**/*.o", ["a/b.o", "a/c/b.o"], ["b.o"]),
        ("**/a/*/b/**/c", ["a/x/b/c", "y/a/a/x/b/z/c/d"], ["a/b/c", "a/x/y/b/c"]),
        ("**/a/b", ["a/b", "a/a/b", "c/a/b/d"], ["a", "a/c/b"]),
        ("**/a*b", ["ab", "axb", "ax/ab"], ["a/b", "ax"]),
        ("**/**/a", ["a", "b/a"], ["b"]),
        ("****/a", ["a", "b/a"], ["b"]),
        # Inside of a name they are nothing, or directories.
        ("a**b", ["ab", "a/b", "ax/b", "ax/y/b"], ["axb", "b"]),
        ("a**/*.o", ["a/b.o", "a/c/d/b.o", "ab.o", "ax/b.o"], ["b.o"]),
        ("a**", ["a", "ab", "ab/c", "a/b"], ["b"]),
        ("**a", ["a", "ba", "c/ba"], ["b"]),
        ("**.o", ["a.o", "b/a.o"], ["a.c"]),
        ("a/***", ["a/b", "a/b/c"], ["b"]),
        # Classes and escapes.
        ("[a-c]x", ["ax", "cx"], ["dx", "x"]),
        ("[^a-c]x", ["dx"], ["ax", "/x"]),
        ("[ab\\]]", ["a", "]"], ["c"]),
        ("[!a]", ["!", "a"], ["b"]),
        ("a\\*", ["a*"], ["ab"]),
        ("\\#a", ["#a"], ["a"]),
        ("\\!a", ["!a"], ["a"]),
        ("a]", ["a]"], ["a"]),
        # The last match decides.
        ("*\n!a", ["b"], ["a", "a/b"]),
        ("a\n!a/b", ["a", "a/c"], ["a/b", "a/b/c"]),
        ("!a\na", ["a", "a/b"], ["b"]),
        ("a\n!a/b\na/b/c", ["a/b/c"], ["a/b", "a/b/d"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["x.md", "README-secret.md"], ["README.md", "README-x.md"]),
        ("**\n!**/*.go", ["a", "a/b.c"], ["a.go", "a/b.go"]),
        ("! a\na/b", ["a/b"], ["a", "a/c"]),
        ("!!a\n*", ["!a"], []),
        ("", [], ["a"]),
    ],
)
def test_patterns(patterns: str, ignored: list[str], kept: list[str]) -> None:
    rules = PatternMatcher.parse(patterns)
    assert [path for path in ignored if not rules.matches(path)] == []
    assert [path for path in kept if rules.matches(path)] == []


@pytest.mark.parametrize(
    ("patterns", "directory", "skips"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", "a/b", True),
        ("*\n!src", "node_modules", True),
        ("*\n!src", "src", False),
        ("a\n!a/b", "a", False),
        ("a\n!a/b", "a/c", True),
        ("a\n!a/b/c/d", "a/b", False),
        ("a\n!b", "a", True),
        ("a\n!*/x", "a", False),
        ("a\n!a/*.o", "a", False),
        ("a\n!b/*.o", "a", True),
        ("a\n!**/*.o", "a", False),
        ("!a/b\na", "a", True),
        ("a/**", "a", False),
        ("a\n!a\\b", "a", False),
    ],
)
def test_directories_that_need_not_be_looked_into(patterns: str, directory: str, skips: bool) -> None:
    assert PatternMatcher(PatternMatcher.parse(patterns).rules).matches_below(directory) is skips


@pytest.mark.parametrize(
    ("patterns", "reason", "line"),
    [
        ("a\n!", 'illegal exclusion pattern: "!"', 2),
        ("[", "syntax error in pattern \\[: expected a \\]", 1),
        ("a\n\n[a", "syntax error in pattern", 3),
        ("[]a]", "expected a backslash before a \\]", 1),
        ("[^]", "expected a backslash before a \\]", 1),
        ("[-a]", "expected a backslash before a -", 1),
        ("[a-]", "expected a backslash before a \\]", 1),
        ("[b-a]", "a range that rises, not b-a", 1),
        ("[a\\", "expected a \\]", 1),
        ("a\\", "a character after the last backslash", 1),
        ("a**b" * 6, "too many \\*\\* inside of names", 1),
    ],
)
def test_errors_name_the_line(patterns: str, reason: str, line: int) -> None:
    with pytest.raises(InvalidPattern, match=reason) as caught:
        PatternMatcher.parse(patterns, "app.dockerignore")
    assert caught.value.line == line
    assert f"\napp.dockerignore:{line}:\n" in caught.value.message


def test_whether_there_are_any() -> None:
    assert not PatternMatcher.parse("# nothing\n")
    assert not PatternMatcher.of(["!a"])
    assert PatternMatcher.of(["a"])


def test_exclusions_of_a_copy() -> None:
    rules = PatternMatcher.of(["*.o", "#a"])
    assert rules.matches("x.o")
    assert rules.matches("#a")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "."),
        (".", "."),
        ("/", "/"),
        ("//a//b/", "/a/b"),
        ("a/./b/../c", "a/c"),
        ("../../a", "../../a"),
        ("/../a", "/a"),
        ("a/..", "."),
        ("../a/../..", "../.."),
    ],
)
def test_clean_path(path: str, expected: str) -> None:
    assert clean_path(path) == expected


def _plain_match(pattern: str, path: str) -> bool:
    """One pattern against a whole path, the slow way."""

    @cache
    def match(at: int, where: int) -> bool:
        if at == len(pattern):
            return where == len(path)
        if pattern.startswith("**", at):
            after = at + (3 if pattern.startswith("/", at + 2) else 2)
            if after == len(pattern):
                return True
            rest = range(where, len(path))
            return match(after, where) or any(path[end] == "/" and match(after, end + 1) for end in rest)
        if pattern[at] == "*":
            return match(at + 1, where) or (where < len(path) and path[where] != "/" and match(at, where + 1))
        if where == len(path):
            return False
        return (path[where] != "/" if pattern[at] == "?" else path[where] == pattern[at]) and match(at + 1, where + 1)

    return match(0, 0)


def _plain(patterns: list[str], path: str) -> bool:
    parts = path.split("/")
    prefixes = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    ignored = False
    for pattern in patterns:
        text = pattern.removeprefix("!")
        if re.fullmatch(r"\*\*[^/*?][^*?]*", text):
            text = f"**/*{text[2:]}"
        if any(_plain_match(text, prefix) for prefix in prefixes):
            ignored = not pattern.startswith("!")
    return ignored


_NAMES = st.lists(
    st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "a*b", "**", "?", "a**b", "**b"]), min_size=1, max_size=5
)
_PATTERNS = st.builds(lambda sign, names: sign + "/".join(names), st.sampled_from(["", "", "!"]), _NAMES)
_PATHS = st.builds("/".join, st.lists(st.sampled_from(["a", "b", "ab", "aab", "abb", "c"]), min_size=1, max_size=6))


@given(st.lists(_PATTERNS, min_size=1, max_size=4), _PATHS)
def test_as_the_plain_matcher(patterns: list[str], path: str) -> None:
    rules = PatternMatcher.of(patterns)
    assert rules.matches(path) == _plain(patterns, path)
    if rules.matches_below(path):
        assert all(rules.matches(f"{path}/{name}") for name in ("a", "b", "ab/a", "a/b/c"))


@given(st.lists(st.text(max_size=20), max_size=5), st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(patterns: list[str], path: str) -> None:
    try:
        rules = PatternMatcher.of(patterns)
    except InvalidPattern:
        return
    rules.matches(path)
    rules.matches_below(path)


def test_work_grows_with_the_length_alone() -> None:
    """Patterns that ruin a backtracking matcher: done at once, or not in a lifetime."""
    rules = PatternMatcher.of(["**/a/**/a/**/a/**/a/**/a/**/b", "*a*a*a*a*a*a*a*b", "a**a**a**a/**/b"])
    assert not rules.matches("/".join(["a"] * 2000))
    assert not rules.matches("a" * 4000)
