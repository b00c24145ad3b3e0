"""Here-documents of RUN, COPY and ADD, and what a RUN's shell gets of them."""

import pytest

from wherry.dockerfile import instructions as ins
from wherry.dockerfile.config import Script, run_command
from wherry.dockerfile.instructions import HereDocument, find_starts, parse_start
from wherry.dockerfile.parser import parse


def one(text: str) -> ins.Instruction:
    return parse(f"FROM debian\n{text}\n").instructions[1]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("<<EOF", HereDocument("<<EOF", "EOF")),
        ("<<-EOF", HereDocument("<<-EOF", "EOF", strip_tabs=True)),
        ('<<"EOF"', HereDocument('<<"EOF"', "EOF", expand=False)),
        ("<<'E OF'", HereDocument("<<'E OF'", "E OF", expand=False)),
        ("<<-'EOF'", HereDocument("<<-'EOF'", "EOF", expand=False, strip_tabs=True)),
        ("3<<EOF", HereDocument("3<<EOF", "EOF")),
        ("<< EOF", HereDocument("<< EOF", "EOF")),
        ("<<$x", HereDocument("<<$x", "$x")),
        ("<<E\\'F", HereDocument("<<E\\'F", "E'F")),
        ("<<", None),
        ("<<-", None),
        ('<<""', None),
        ("<<<EOF", None),
        ("a<<EOF", None),
        ("EOF", None),
        ("<<a<b", None),
    ],
)
def test_starts(word: str, expected: HereDocument | None) -> None:
    assert parse_start(word) == expected


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("cat <<A > /x", ["A"]),
        ("cat <<A <<B", ["A", "B"]),
        ("cat << A", ["A"]),
        ('echo "<<A"', []),
        ("echo '<<A'", []),
        ("echo \\<<A", []),
        ("cat <<<A", []),
        ("echo $((1<<2))", []),
        ('x="$(cat <<A', []),
        ("echo ${x:-<<A} <<B", ["B"]),
        ("echo ${x <<B", []),
    ],
)
def test_starts_in_a_line(line: str, names: list[str]) -> None:
    assert [found.name for found in find_starts(line)] == names


def test_bodies_are_kept_as_they_are() -> None:
    found = one("RUN <<EOF\n# no comment\n\n  a \\\n\tb\r\nEOF")
    assert isinstance(found, ins.Run)
    assert found.heredocs == (HereDocument("<<EOF", "EOF", "# no comment\n\n  a \\\n\tb\r\n"),)


def test_several_in_one_instruction() -> None:
    found = one("COPY <<a <<-'b' c /d/\n1\na\n\t$2\n\tb\nUSER x")
    assert isinstance(found, ins.Copy)
    assert found.sources == (*found.heredocs, "c")
    assert [(each.name, each.content, each.expand) for each in found.heredocs] == [
        ("a", "1\n", True),
        ("b", "$2\n", False),
    ]
    assert found.position.end == 6


def test_the_end_may_stand_behind_tabs_only_with_a_dash() -> None:
    assert isinstance(found := one("RUN <<EOF\n\tEOF\nEOF"), ins.Run)
    assert found.heredocs[0].body == "\tEOF\n"
    assert isinstance(found := one("RUN <<-EOF\n\tEOF"), ins.Run)
    assert found.heredocs[0].body == ""


def test_windows_line_ends() -> None:
    assert isinstance(found := one("ADD <<EOF /a\r\nx\r\nEOF\r"), ins.Add)
    assert found.heredocs[0].content == "x\r\n"


@pytest.mark.parametrize("line", ['RUN ["cat", "<<EOF"]', "CMD cat <<EOF", "ENV a=<<EOF", "RUN cat <<<EOF"])
def test_where_there_is_none(line: str) -> None:
    one(line)


@pytest.mark.parametrize(
    ("text", "command", "script"),
    [
        ("RUN true", "true", None),
        ("RUN <<EOF\na\nb\nEOF", "a\nb\n", None),
        ("RUN <<-EOF\n\ta\n\tEOF", "a\n", None),
        ("RUN python3 <<EOF > /x\nprint(1)\nEOF", "python3 <<EOF > /x\nprint(1)\nEOF", None),
        ("RUN cat <<a <<-b\n1\na\n\t2\n\tb", "cat <<a <<-b\n1\na\n\t2\nb", None),
        (
            "RUN <<EOF\n#!/usr/bin/python3\nx\nEOF",
            "/dev/pipes/EOF",
            Script("/dev/pipes/EOF", "#!/usr/bin/python3\nx\n"),
        ),
    ],
)
def test_what_the_shell_gets(text: str, command: str, script: Script | None) -> None:
    assert isinstance(found := one(text), ins.Run)
    assert run_command(found) == (ins.CommandLine((command,), shell=True), script)
