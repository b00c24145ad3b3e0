"""The template language against what Docker's own client printed, and against templates that mean harm."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli import inspect
from wherry.cli.session import CommandError
from wherry.cli.templates import TemplateError, parse
from wherry.cli.templates.values import Duration, Map, Time, shaped

# Recorded with Docker's client 28.2.2: objects as the API gave them, and for each template what was printed.
RECORDED = json.loads((Path(__file__).parent / "docker_templates.json").read_text())


@pytest.mark.parametrize(
    ("kind", "template", "output", "error", "code"),
    RECORDED["cases"],
    ids=[f"{number}-{case[1][:40]}" for number, case in enumerate(RECORDED["cases"])],
)
def test_a_template_prints_what_docker_prints(
    capsys: pytest.CaptureFixture[str], kind: str, template: str, output: str, error: str, code: int
) -> None:
    body = json.dumps(RECORDED["objects"][kind]).encode()
    failure: CommandError | None = None
    try:
        inspect.show(["it"], template, lambda name: body)
    except CommandError as caught:
        failure = caught
    assert capsys.readouterr().out == output
    assert (f"{failure.text}\n" if failure else "", failure.code if failure else 0) == (error, code)


DATA = Map({"A": 1, "B": True, "L": ["a", "b"], "M": Map(k="v"), "S": "text", "N": None, "F": 1.5})


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("{{.N}} {{.Missing}}", "<nil> <no value>"),
        ("{{range $i, $x := .L}}{{if $i}}, {{end}}{{$x}}{{end}}", "a, b"),
        ("{{$last := ``}}{{range .L}}{{$last = .}}{{end}}{{$last}}", "b"),
        ("{{with .M}}{{.k}}{{$.A}}{{end}}", "v1"),
        ("a {{- /* trimmed */ -}} b", "ab"),
        ("{{ .A\n }}", "1"),
        ("{{.L | json | printf `%q`}}", r'"[\"a\",\"b\"]"'),
        ("{{(index .L 1) | upper}}", "B"),
        ("{{not (and .B .N)}}", "true"),
        ("{{or .N .Missing `fallback`}}", "fallback"),
        ("{{join .M `,`}}", "v"),
        ("{{join .L ``}}", "ab"),
        ("{{print 1 2 .S 3 4}}", "1 2text3 4"),
        ("{{slice .S 1 3}}", "ex"),
        ("{{if eq .S `a` `text`}}yes{{end}}", "yes"),
        ("{{println .F .B}}", "1.5 true\n"),
        ("{{range .L}}{{if eq . `b`}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{range $x := .L}}{{if eq . `a`}}{{continue}}{{end}}{{$x}}{{end}}", "b"),
        ("{{range .L}}{{range $.L}}{{break}}{{end}}{{.}}{{end}}", "ab"),
        ("{{define `T`}}<{{.}}{{$}}>{{end}}{{template `T` .S}}{{template `T`}}", "<texttext><<nil><nil>>"),
        ("{{block `B` .M}}{{.k}}{{end}}{{template `B` .M}}", "vv"),
        ("{{$x := 1}}{{define `T`}}{{$x := 2}}{{$x}}{{end}}{{template `T`}}{{$x}}", "21"),
        (r"{{'a'}} {{'\''}} {{'\n'}} {{printf `%c` 'ü'}}", "97 39 10 ü"),
        ("{{html `<a href='x'>&`}}", "&lt;a href=&#39;x&#39;&gt;&amp;"),
        (r"{{js `a'b\<=` }}", r"a\'b\\\u003C\u003D"),
        ("{{urlquery `a b/c?ü` 1}}", "a+b%2Fc%3F%C3%BC1"),
        ("{{printf `%-6s|%6s|%06.2f|%x|%t|%v` .S .S .F 255 .B .M}}", "text  |  text|001.50|ff|true|map[k:v]"),
    ],
)
def test_templates_over_plain_data(template: str, output: str) -> None:
    assert parse(template).execute(DATA) == output


@pytest.mark.parametrize("literal", [r'"\q"', r'"\x4"', r'"\u00f"', '"open', "`open"])
def test_strings_that_are_none(literal: str) -> None:
    with pytest.raises(TemplateError, match=r"invalid syntax|unterminated"):
        parse(f"{{{{{literal}}}}}")


def test_escapes() -> None:
    assert parse(r'{{"\\q\t\"\x41\u00fcü"}}').execute({}) == '\\q\t"Aüü'


def test_and_stops_at_the_first_false_argument() -> None:
    assert parse("{{and false (index .L 99)}}").execute(DATA) == "false"


def test_an_error_names_line_and_column_in_bytes() -> None:
    with pytest.raises(TemplateError, match=r'^template: t:2:7: executing "t" at <index \.L 9>: error calling index'):
        parse("first\nünd {{index .L 9}}", "t").execute(DATA)


def test_an_error_keeps_what_was_written_before_it() -> None:
    with pytest.raises(TemplateError) as caught:
        parse("before{{.A.B}}after").execute(DATA)
    assert caught.value.output == "before"


def test_a_template_that_nests_too_deep_is_an_error() -> None:
    for template in ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "{{if true}}" * 5000 + "{{end}}" * 5000):
        with pytest.raises(TemplateError, match="too deep"):
            parse(template)


def test_deep_data_is_an_error_and_no_crash() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for template in ("{{.}}", "{{json .}}", "{{print .}}"):
        with pytest.raises(TemplateError, match=r"too deep|maximum template depth"):
            parse(template).execute(deep)


WORDS = """
{{ }} {{- -}} {{/* */}} if else end range with . .A .L .M.k .N.x $ $x := = , ( ) |
"s" `r` 'c' "\\q" 1 -1 1.5 0x1f 1i 99999999999999999999 true nil eq lt and or not index len slice print printf json join
split title pad truncate html js urlquery x ü \\ "\\x4" "\\u00fc"
"""
PIECES = st.sampled_from([*WORDS.split(), "\n"])
SOURCES = st.lists(PIECES, max_size=30).map(" ".join) | st.lists(PIECES, max_size=12).map(
    lambda pieces: "{{" + " ".join(pieces) + "}}"
)


@given(SOURCES | st.text(max_size=40))
def test_no_template_fails_but_with_a_template_error(source: str) -> None:
    try:
        template = parse(source)
        template.execute(DATA)
        template.execute(shaped(RECORDED["objects"]["container"]))
    except TemplateError:
        pass


@given(
    st.text(alphabet="%+-# 0123456789.*[]vTtbcdoOqxXUeEfFgGspz!", max_size=12), st.integers(), st.floats(), st.text()
)
def test_printf_takes_any_format(source: str, number: int, real: float, text: str) -> None:
    data = {"f": source, "n": number, "r": real, "s": text, "l": [number, text], "m": {text: real}}
    try:
        parse("{{printf .f .n .r .s .l .m}}").execute(data)
    except TemplateError as error:
        assert "longer than" in str(error)


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{.ID}} {{.HostConfig.NanoCPUs}}", "1 5"),
        ("{{len .HostConfig.Binds}}{{.HostConfig.Binds}}{{json .HostConfig.Binds}}", "0[]null"),
        ("{{index .Config.Labels `x`}}{{json .Config.Labels}}", "null"),
        ("{{.Config.Healthcheck.Interval}}", "30s"),
        ("{{.Mounts}}{{range .Mounts}}{{.Name}}{{end}}", "[{bind /a /b true}]"),
    ],
)
def test_what_the_api_leaves_out(template: str, output: str) -> None:
    container = {
        "Id": "1",
        "State": {"Status": "running"},
        "HostConfig": {"NanoCpus": 5, "Binds": None},
        "Config": {"Labels": None, "Healthcheck": {"Interval": 30 * 10**9}},
        "Mounts": [{"Type": "bind", "Source": "/a", "Destination": "/b", "RW": True}],
    }
    assert parse(template).execute(shaped(container)) == output


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (2_000_000, "2ms"),
        (30 * 10**9, "30s"),
        (90 * 10**9, "1m30s"),
        (3_600 * 10**9, "1h0m0s"),
        (-1_500_000_000, "-1.5s"),
    ],
)
def test_durations_print_as_in_go(nanoseconds: int, text: str) -> None:
    assert str(Duration(nanoseconds)) == text


def test_times_print_as_in_go() -> None:
    assert str(Time("2024-01-02T03:04:05.120000000Z")) == "2024-01-02 03:04:05.12 +0000 UTC"
    assert str(Time("2024-01-02T03:04:05+02:00")) == "2024-01-02 03:04:05 +0200 +0200"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{break}}", "{{break}} outside {{range}}"),
        ("{{range .L}}{{else}}{{continue}}{{end}}", "{{continue}} outside {{range}}"),
        ("{{range .L}}{{block `B` .}}{{break}}{{end}}{{end}}", "{{break}} outside {{range}}"),
        ("{{if .A}}{{define `T`}}{{end}}{{end}}", "unexpected {{define}}"),
        ("{{define `T`}}{{else}}{{end}}", "unexpected {{else}}"),
        ("{{define T}}{{end}}", 'unexpected "T" in define clause'),
        ("{{define `T`}}", "unexpected EOF"),
        ("{{'ab'}}", "malformed character constant: 'ab'"),
        ("{{'a}}", "unterminated character constant"),
    ],
)
def test_what_does_not_parse(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as raised:
        parse(template)
    assert str(raised.value) == f"template: :1: {message}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{template `T`}}", 'template "T" not defined'),
        ("{{define `T`}}{{template `T`}}{{end}}{{template `T`}}", "exceeded maximum template depth"),
    ],
)
def test_templates_that_cannot_be_run(template: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        parse(template).execute(DATA)
