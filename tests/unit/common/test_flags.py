import pytest

from wherry.common import flags
from wherry.common.flags import FlagError, HelpRequested, Options

KNOWN = [
    flags.switch("interactive", "i", ""),
    flags.switch("tty", "t", ""),
    flags.switch("sig-proxy", "", "", True),
    flags.strings("env", "e", ""),
    flags.strings("dns-option", "", ""),
    flags.strings("dns-opt", "", "", store="dns-option"),
    flags.string("name", "n", "", "none"),
    flags.integer("timeout", "", "", 10),
    flags.unsigned("weight", "", "", bits=16),
    flags.pairs("label", "l", ""),
    flags.filters(""),
    flags.integer("time", "", "", deprecated="use --timeout instead", store="timeout"),
]


def parse(*words: str, interspersed: bool = True) -> Options:
    return flags.parse(KNOWN, words, interspersed=interspersed)


@pytest.mark.parametrize(
    ("words", "values", "arguments"),
    [
        (["-it", "x"], {"interactive": True, "tty": True}, ["x"]),
        (["-i=false", "-t=true"], {"interactive": False, "tty": True}, []),
        (["-ti=false"], {"interactive": False, "tty": True}, []),
        (["--tty=1", "--sig-proxy=F"], {"tty": True, "sig-proxy": False}, []),
        (["--tty", "false"], {"tty": True}, ["false"]),
        (
            ["-e", "A=1", "-eB=2", "-e=C=3", "--env", "D=4", "--env=E=5"],
            {"env": ["A=1", "B=2", "C=3", "D=4", "E=5"]},
            [],
        ),
        (["-ie", "-t"], {"interactive": True, "env": ["-t"], "tty": False}, []),
        (["--name", "--tty"], {"name": "--tty", "tty": False}, []),
        (["--name="], {"name": ""}, []),
        (["-n", ""], {"name": ""}, []),
        (["--timeout", "-1"], {"timeout": -1}, []),
        (["--timeout=0x10"], {"timeout": 16}, []),
        (["--dns-opt", "a", "--dns-option", "b"], {"dns-option": ["a", "b"]}, []),
        (["-l", "a=b", "-l", "c", "-l", "a=d=e"], {"label": {"a": "d=e", "c": ""}}, []),
        (["-f", "Label = x ", "-f", "label=y", "-f", "", "-f", "label=x"], {"filter": {"label": ["x", "y"]}}, []),
        (["a", "-t", "b"], {"tty": True}, ["a", "b"]),
        (["a", "--", "-t", "--", "b"], {"tty": False}, ["a", "-t", "--", "b"]),
        (["-", ""], {}, ["-", ""]),
        ([], {"name": "none", "timeout": 10, "env": []}, []),
    ],
)
def test_words(words: list[str], values: dict[str, object], arguments: list[str]) -> None:
    options = parse(*words)
    assert {name: options[name] for name in values} == values
    assert options.arguments == arguments


def test_flags_end_at_the_first_argument_where_a_command_says_so() -> None:
    options = parse("-i", "image", "-t", "--", "x", interspersed=False)
    assert options["interactive"] and not options["tty"]
    assert options.arguments == ["image", "-t", "--", "x"]
    assert parse("--", "-t", interspersed=False).arguments == ["-t"]


def test_what_was_given_is_known_apart_from_its_value() -> None:
    options = parse("--name=none", "-i=false", "--name", "x")
    assert options.changed("name") and options.changed("interactive") and not options.changed("tty")
    assert options.count == 2


def test_defaults_are_not_shared() -> None:
    parse("-e", "A=1", "-l", "a=b")
    assert parse()["env"] == [] and parse()["label"] == {}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["--foo=1"], "unknown flag: --foo"),
        (["---x"], "bad flag syntax: ---x"),
        (["--=x"], "bad flag syntax: --=x"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-itx"], "unknown shorthand flag: 'x' in -x"),
        (["--name"], "flag needs an argument: --name"),
        (["-in"], "flag needs an argument: 'n' in -n"),
        (
            ["-t=maybe"],
            'invalid argument "maybe" for "-t, --tty" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (
            ["--timeout", "x"],
            'invalid argument "x" for "--timeout" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (
            ["--weight", "65536"],
            'invalid argument "65536" for "--weight" flag: strconv.ParseUint: parsing "65536": value out of range',
        ),
        (["-f", "x"], 'invalid argument "x" for "-f, --filter" flag: bad format of filter (expected name=value)'),
    ],
)
def test_what_is_wrong(words: list[str], text: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse(*words)
    assert str(caught.value) == text


@pytest.mark.parametrize("words", [["--help"], ["x", "-h"], ["-ith"]])
def test_help(words: list[str]) -> None:
    with pytest.raises(HelpRequested):
        parse(*words)


def test_help_where_h_has_another_meaning() -> None:
    known = [flags.string("hostname", "h", ""), flags.switch("help", "", "")]
    assert flags.parse(known, ["-h", "x"])["hostname"] == "x"
    with pytest.raises(HelpRequested):
        flags.parse(known, ["--help"])
    assert not flags.parse(known, ["--help=false"])["help"]


def test_an_old_flag_says_so_and_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse("--time", "3")["timeout"] == 3
    assert capsys.readouterr().out == "Flag --time has been deprecated, use --timeout instead\n"


def test_swap_may_be_unlimited() -> None:
    swap = flags.swap("")
    assert flags.parse([swap], ["--memory-swap", "-1"])["memory-swap"] == -1
    assert flags.parse([swap], ["--memory-swap=1k"])["memory-swap"] == 1024
