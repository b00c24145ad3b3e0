"""Expressions that clients write: Docker's meaning, and no time that a name's length does not explain."""

import subprocess
import sys

import pytest

from wherry.engine.events import compile_expression, name_filter

HOSTILE = "(a*)*(a|aa)+(.*a){30}b"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["/web_1", "db", "web.2"]),
        ("web", ["/web_1", "web.2"]),
        ("^web", ["web.2"]),
        ("^/web", ["/web_1"]),
        ("db$", ["db"]),
        ("^db$", ["db"]),
        ("^d$", []),
        ("web[._]", ["/web_1", "web.2"]),
        ("w.b.2|d", ["db", "web.2"]),
        (r"\.", ["web.2"]),
        ("(?i)DB", ["db"]),
    ],
)
def test_what_is_found(text: str, names: list[str]) -> None:
    finds = compile_expression(text)
    assert [name for name in ("/web_1", "db", "web.2") if finds(name)] == names


@pytest.mark.parametrize("text", ["(", "a{1000}{1000}", "(a{30}){30}" * 300, "(?<=a)b"])
def test_what_is_no_expression_stands_for_itself(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        compile_expression(text)
    assert name_filter(text)(f"a{text}b")
    assert not name_filter(text)("ab")
    assert capfd.readouterr().err == "", "nothing of it gets into the log"


def test_nobody_waits_for_a_hostile_one() -> None:
    assert not name_filter(HOSTILE)("a" * 10_000)


def test_a_plain_name_needs_no_library() -> None:
    program = "import sys; from wherry.engine.events import name_filter as f; f('^/a$'); print('re2' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "False\n"
