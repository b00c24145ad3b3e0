import subprocess
import sys
from collections.abc import Callable

import pytest

from wherry import __version__
from wherry.cli import main
from wherry.cli.commands import TOP, Entry, Group
from wherry.cli.help import of_command

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    def run(*words: str) -> tuple[int, str, str]:
        code = main.run(words)
        output = capfd.readouterr()
        return code, output.out, output.err

    return run


def entries() -> list[tuple[str, Entry]]:
    found = []
    for name, entry in TOP.items():
        if isinstance(entry, Group):
            found += [(f"{name} {below}", entry.commands[below]) for below in entry.commands]
        else:
            found.append((name, entry))
    return found


@pytest.mark.parametrize(("name", "entry"), entries(), ids=[name for name, _ in entries()])
def test_every_command_is_where_the_table_says(name: str, entry: Entry) -> None:
    command = entry.load()
    text = of_command(f"wherry {name}", entry)
    assert text.startswith(f"Usage:  wherry {name.rpartition(' ')[0]}".rstrip())
    assert len({flag.name for flag in command.flags}) == len(command.flags)
    letters = [flag.short for flag in command.flags if flag.short]
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("name", [name for name, entry in TOP.items() if isinstance(entry, Group)])
def test_the_aliases_of_groups(name: str) -> None:
    group = TOP[name]
    assert isinstance(group, Group)
    assert set(group.aliases.values()) <= set(group.commands)


@pytest.mark.parametrize("words", ["image rmi", "image remove", "container ps", "network list", "volume remove"])
def test_commands_by_their_other_names(call: Call, words: str) -> None:
    code, out, _ = call(*words.split(), "--help")
    assert code == 0 and out.startswith(f"Usage:  wherry {words.split()[0]} ")


def test_version(call: Call) -> None:
    assert call("--version") == (0, f"wherry version {__version__}\n", "")
    assert call("-v") == call("--version")


def test_help(call: Call) -> None:
    code, out, err = call("--help")
    assert code == 0 and out.startswith("Usage:  wherry [OPTIONS] COMMAND\n") and not err
    assert call("help") == (0, out, "")
    assert call() == (0, "", out)
    for line in out.splitlines():
        assert len(line) <= 110


def test_help_of_a_group(call: Call) -> None:
    code, out, err = call("container", "--help")
    assert code == 0 and out.startswith("Usage:  wherry container COMMAND\n\nManage containers\n") and not err
    assert call("help", "container") == (0, out, "")
    assert call("container") == (0, "", out)


def test_the_module_runs_too() -> None:
    done = subprocess.run([sys.executable, "-m", "wherry.cli.main", "foo"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "wherry: unknown command: wherry foo\n\nRun 'wherry --help' for more information\n"


def test_the_daemon_is_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("os.execv", lambda program, words: seen.append((program, words)) or sys.exit(0))
    with pytest.raises(SystemExit):
        main.run(["-H", "unix:///x", "-D", "daemon", "--data-root", "/y"])
    assert seen == [
        (
            sys.executable,
            [sys.executable, "-P", "-m", "wherry.daemon", "-H", "unix:///x", "-D", "--data-root", "/y"],
        )
    ]


@pytest.mark.parametrize(
    ("redirections", "code", "errors"),
    [
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        (">/dev/full", 1, "write: No space left on device\n"),
    ],
)
def test_streams_that_are_closed_or_cannot_be_written(redirections: str, code: int, errors: str) -> None:
    line = f'"{sys.executable}" -m wherry.cli.main --version {redirections}'
    finished = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert (finished.returncode, finished.stderr) == (code, errors)


@pytest.mark.parametrize("words", ["stop -", "kill -", "logs -", "exec - true", "port -", "top -", "wait -"])
def test_an_empty_name_is_said_to_be_one(call: Call, words: str) -> None:
    """As of a variable that is not set: `wherry stop "$box"`."""
    given = ["" if word == "-" else word for word in words.split()]
    assert call(*given) == (1, "", "invalid container name or ID: value is empty\n")


def test_both_usages_of_cp_are_shown(call: Call) -> None:
    code, _, errors = call("cp", "one")
    assert code == 1
    assert "wherry cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\twherry cp [OPTIONS] SRC_PATH|- CONTAINER:" in errors


@pytest.mark.parametrize(
    ("platform", "said"),
    [
        ("x", '"x": unknown operating system or architecture: invalid argument'),
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier: invalid argument'),
        ("linux/", '"" is an invalid component of "linux/": platform specifier component must match'),
        ("a=b", '"a=b" is an invalid OS component of "a=b": OSAndVersion specifier component must match'),
    ],
)
def test_a_platform_that_is_none(call: Call, platform: str, said: str) -> None:
    code, _, errors = call("history", "--platform", platform, "busybox")
    assert (code, errors[: len(said) + 18]) == (1, f"invalid platform: {said}")
