"""The client's .dockerignore leaves out what the engine's does: one decides what is sent, the other what is read."""

from hypothesis import given
from hypothesis import strategies as st

from wherry.client.ignore import Ignore
from wherry.dockerfile.ignore import IgnoreRules
from wherry.dockerfile.lexer import DockerfileError

_PIECES = st.sampled_from(["a", "b", ".o", "*", "**", "?", "/", "**/", "/**", "[ab]", "[^a]", "\\a"])
_PATTERN = st.builds(
    "{}{}".format, st.sampled_from(["", "", "!"]), st.lists(_PIECES, min_size=1, max_size=5).map("".join)
)
_PATH = st.lists(st.sampled_from(["a", "b", "ab", "a.o"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(_PATTERN, min_size=1, max_size=3), st.lists(_PATH, min_size=5, max_size=20))
def test_like_the_engine(patterns: list[str], paths: list[str]) -> None:
    try:
        engine = IgnoreRules(patterns)
    except DockerfileError:
        return  # the engine says so, too, when it reads the file
    client = Ignore("\n".join(patterns))
    for path in paths:
        assert client.leave_out(path) == engine.matches(path)
        if client.leave_out_all(path):
            assert client.leave_out(path)
            assert client.leave_out(f"{path}/a/b.o")


def test_a_folder_is_only_looked_into_for_what_may_be_in_it() -> None:
    rules = Ignore("modules\ndocs\nsrc\n!README.md\n!docs/a/b\n!s*/x\n")
    assert rules.leave_out_all("modules") and rules.leave_out_all("docs/c")
    assert not rules.leave_out_all("docs") and not rules.leave_out_all("docs/a") and not rules.leave_out_all("src")
