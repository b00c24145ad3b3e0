"""Printing, and the promise that parse, print, parse is stable, whatever the text."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wherry.dockerfile.instructions import KEYWORDS, Instruction
from wherry.dockerfile.lexer import DockerfileError
from wherry.dockerfile.parser import parse
from wherry.dockerfile.printing import print_dockerfile, print_instruction


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("from  a   as B", "FROM a AS b"),
        ("FROM --platform=$P a", "FROM --platform=$P a"),
        ("FROM a\nrun a \\\n # c\n  && b", "RUN a   && b"),
        ('FROM a\nRUN [ "a" ,"é" ]', 'RUN ["a", "é"]'),
        ("FROM a\nRUN --mount='source=a b,target=/c' x", 'RUN --mount="source=a b,target=/c" x'),
        ("FROM a\nRUN --security=insecure --network=none x", "RUN --network=none --security=insecure x"),
        ("FROM a\nRUN -- --x", "RUN -- --x"),
        ("FROM a\nCOPY a\tb  /c", "COPY a b /c"),
        ('FROM a\nCOPY ["a b", "/c"]', 'COPY ["a b", "/c"]'),
        ('FROM a\nCOPY ["a", "/c"]', "COPY a /c"),
        ("FROM a\nCOPY --link=false --parents --from=x a /c", "COPY --from=x --parents a /c"),
        ("FROM a\nCOPY <<-'E' b /c\n\tx\n\tE", "COPY <<-'E'  b  /c\n\tx\nE"),
        ("FROM a\nADD --keep-git-dir --unpack=False a b", "ADD --keep-git-dir --unpack=false a b"),
        ("FROM a\nCMD", "CMD"),
        ("FROM a\nCMD []", "CMD []"),
        ("FROM a\nENV a=1 b='c d'", "ENV a=1 b='c d'"),
        ("FROM a\nENV a b  c", "ENV a  b  c"),
        ("FROM a\nARG a b= c=1", "ARG a b= c=1"),
        ("FROM a\nEXPOSE 90 80/udp", "EXPOSE 80/udp 90"),
        ("FROM a\nVOLUME /a /b", "VOLUME /a /b"),
        (
            'FROM a\nHEALTHCHECK --interval=90s --retries=3 CMD ["a"]',
            'HEALTHCHECK --interval=1m30s --retries=3 CMD ["a"]',
        ),
        ("FROM a\nHEALTHCHECK none", "HEALTHCHECK NONE"),
        ("FROM a\nONBUILD run <<E\nx\nE", "ONBUILD run <<E\nx\nE"),
        ('FROM a\nSHELL ["b","-c"]', 'SHELL ["b", "-c"]'),
    ],
)
def test_spelling(text: str, printed: str) -> None:
    assert print_instruction(parse(text).instructions[-1]) == printed


def test_a_whole_file() -> None:
    text = "#syntax=x\n# ESCAPE = `\n\n# comment\nARG a\nFROM b AS c\nRUN d\n\n\nFROM c\nCMD e\n"
    assert print_dockerfile(parse(text)) == ("# syntax=x\n# escape=`\nARG a\n\nFROM b AS c\nRUN d\n\nFROM c\nCMD e\n")


def test_what_is_no_instruction_is_refused() -> None:
    with pytest.raises(TypeError):
        print_instruction(Instruction())


_WORDS = [
    *("a", "b=c", "a=b", "=", "'", '"', "\\", "`", "$x", "${x:-y}", "${", "}", "[", "]", '["a"]', '["a", "b"]', "[1]"),
    *(",", "--", "--x", "--link", "--from=x", "--mount=type=cache,target=/x", "--mount=target=$a", "#", "# a", "as"),
    *("--chown='a b'", '--exclude="a\\"b"', "--exclude='a\\'", "<<E", "<<-E", "<<'E'", '<<"E"', "<<", "<", "E", "CMD"),
    *("NONE", "--interval=1m", "--retries=2", "80", "8-9/udp", "SIGTERM", "/a", "é", "\xa0", "\u2028", "\x85", "\\\\"),
    *("\\ ", '\\"', "''", '""', "\t", "\x0b", "\x0c", "\r", "\\\n", "`\n", "\\ \n", "\x00", "\x1c", "\ud800"),
]
_OTHERS = ("from", "ONBUILD RUN", "ONBUILD COPY", "HEALTHCHECK CMD", "ENV a", "RUN a <<E\n", "E", "\tE", "", "#")
_LINES = st.builds(
    lambda start, words, space: start + space + space.join(words),
    st.sampled_from((*KEYWORDS, *_OTHERS)),
    st.lists(st.sampled_from(_WORDS), max_size=6),
    st.sampled_from([" ", "", "  ", "\t"]),
)
_FILES = st.builds(
    lambda head, lines, end: head + end.join(lines) + end,
    st.sampled_from(["", "# escape=`\n", "# syntax=a b\n", "\ufeff", "# c\n# escape=`\n"]),
    st.lists(_LINES, max_size=3),
    st.sampled_from(["\n", "\r\n", "\nE\n"]),
)


@given(_FILES | st.text(max_size=200))
@example("RUN a\\ \\\n")
@example("RUN a \\\x0c\nUSER b")
@example("# escape=`\nRUN a`\x0c")
@example("COPY [\x0b'a' b c]\n")
@example('COPY [\x0b"a",\x0b"b"]\n')
@example("COPY <<E <<E /a\n1\nE\n2\nE\n")
@example("COPY <<\x0bE /a\n")
@example("ONBUILD RUN <<'E\\'\\ \\\n\nx\nE\\\n")
@example('RUN --mount=target="a\\\\b" c\n')
@example("ENV -- --a=b\n")
@example("HEALTHCHECK --interval=0.0000001h --timeout=1ms1us1ns CMD a")
@example("COPY <<E <<E b /a\n1\nE\n2\nE\n")
@example("ADD  \\  <<E  x\nE\n")
@example("ARG \\  \\  \xa0\n")
@example("ADD \ud800 \xa0 a\n")
@example("ENV  \\  b=c  a\n")
@example("VOLUME a\u2028 b\n")
@settings(max_examples=500, deadline=None)
def test_parse_print_parse_is_stable(text: str) -> None:
    try:
        first = parse(text)
    except DockerfileError as error:
        assert error.reason
        assert error.message
        return
    printed = print_dockerfile(first)
    second = parse(printed)
    assert second.instructions == first.instructions
    assert (second.escape, second.directives) == (first.escape, first.directives)
    assert print_dockerfile(second) == printed


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        parse(b"FROM a\n" + data)
    except DockerfileError as error:
        assert error.message
