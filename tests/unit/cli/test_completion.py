"""Completion: what `__complete` offers, and the scripts in their shells."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.answering_engine import AnsweringEngine
from tests.unit.cli.conftest import Cli
from wherry.cli.commands import TOP, Group
from wherry.cli.completion import SCRIPTS

CONTAINERS = [
    {"Id": "0" * 64, "Names": ["/web"], "Image": "nginx", "Status": "Up 2 hours"},
    {"Id": "1" * 64, "Names": ["/worker"], "Image": "app:1", "Status": "Up 2 hours"},
]


@pytest.fixture
def offers(answering_engine: AnsweringEngine, cli: Cli) -> Cli:
    answering_engine.answers |= {
        "/containers/json": json.dumps(CONTAINERS),
        "/images/json": json.dumps([{"Id": "sha256:0", "RepoTags": ["nginx:latest", "app:1"]}]),
        "/volumes": json.dumps({"Volumes": [{"Name": "data", "Driver": "local"}]}),
        "/networks": json.dumps([{"Name": "bridge", "Driver": "bridge"}]),
    }
    return lambda *words: [line.partition("\t")[0] for line in cli("__complete", "--", *words)[1].splitlines()]


def test_commands(offers: Cli) -> None:
    visible = {name for name in TOP if not name.startswith("__")}
    assert {*offers("")} == {*visible, ":"}
    assert offers("sta") == ["start", "stats", ":"]
    group = TOP["volume"]
    assert isinstance(group, Group)
    assert {*offers("volume", "")} == {*group.commands, ":"}
    assert "dial-stdio" not in offers("system", "")
    assert offers("nope", "") == [":"]


def test_flags_come_from_the_commands_themselves(offers: Cli) -> None:
    for name, entry in TOP.items():
        if not isinstance(entry, Group) and not entry.hidden:
            known = {f"--{flag.name}" for flag in entry.load().flags if not (flag.hidden or flag.deprecated)}
            assert {*offers(name, "--")} == {*known, "--help", ":"}, name
    assert offers("stop", "--si") == ["--signal", ":"]
    assert offers("--tlsc") == ["--tlscacert", "--tlscert", ":"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["stop", "w"], ["web", "worker", ":"]),
        (["stop", "web", "wo"], ["worker", ":"]),
        (["exec", "-it", "we"], ["web", ":"]),
        (["exec", "web", "sh"], [":files"]),
        (["run", "--rm", "ng"], ["nginx:latest", "nginx", ":"]),
        (["run", "-it", "app:1", "sh"], [":files"]),
        (["run", "--network", "b"], ["bridge", ":"]),
        (["run", "--network=b"], ["--network=bridge", ":"]),
        (["run", "--env-file", ""], [":files"]),
        (["run", "-e", ""], [":"]),
        (["kill", "-s", "SIGH"], ["SIGHUP", ":"]),
        (["volume", "rm", ""], ["data", ":"]),
        (["image", "tree", "a"], ["app:1", ":"]),
        (["cp", "we"], ["web:", ":files"]),
        (["cp", "./"], [":files"]),
        (["rm", "--", "w"], ["web", "worker", ":"]),
        (["completion", "z"], ["zsh", ":"]),
        (["-l", "de"], ["debug", ":"]),
        (["daemon", "--log-format", ""], ["json", "text", ":"]),
        (["daemon", "--config-file", ""], [":files"]),
        (["daemon", "--storage-d"], ["--storage-driver", ":"]),
        (["daemon", "--container"], [":"]),
        (["rename", "w"], ["web", "worker", ":"]),
        (["rename", "web", ""], [":"]),
    ],
)
def test_names_and_values(offers: Cli, words: list[str], expected: list[str]) -> None:
    assert offers(*words) == expected


def test_only_those_that_a_command_is_of_use_to(answering_engine: AnsweringEngine, offers: Cli) -> None:
    offers("start", "")
    assert json.loads(answering_engine.last.query["filters"][0]) == {"status": ["created", "exited", "dead"]}
    offers("rm", "")
    assert "filters" not in answering_engine.last.query


def test_an_engine_that_does_not_answer_is_no_error(tmp_path: Path, cli: Cli) -> None:
    assert cli("__complete", "--", "-H", f"unix://{tmp_path}/nope", "stop", "")[:2] == (0, ":\n")
    assert cli("__complete", "--", "--context", "nope", "stop", "")[:2] == (0, ":\n")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts_can_be_read_by_their_shells(cli: Cli, shell: str) -> None:
    code, script, _ = cli("completion", shell)
    assert code == 0
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_an_unknown_shell(cli: Cli) -> None:
    assert cli("completion", "tcsh")[::2] == (1, "unknown shell 'tcsh': use bash, fish, zsh\n")


ASKED = {
    "bash": """
source <(wherry completion bash)
COMP_WORDS=(wherry stop w) COMP_CWORD=2
_wherry 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
""",
    "fish": """
wherry completion fish | source
complete -C 'wherry stop w'
""",
    "zsh": """
compdef() { : }
_describe() { print -rl -- "${(@P)3}" }
source <(wherry completion zsh)
words=(wherry stop w) CURRENT=3
_wherry
""",
}


@pytest.mark.parametrize("shell", ASKED)
def test_the_scripts_complete(answering_engine: AnsweringEngine, offers: Cli, tmp_path: Path, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    wherry = tmp_path / "wherry"
    wherry.write_text(f'#!/bin/sh\nexec {sys.executable} -m wherry.cli.main "$@"\n')
    wherry.chmod(0o755)
    script = f"export PATH={tmp_path}:$PATH WHERRY_HOST={answering_engine.address}\n{ASKED[shell]}"
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
    between = {"bash": "", "fish": "\tnginx, Up 2 hours", "zsh": ":nginx, Up 2 hours"}[shell]
    assert done.stdout.splitlines() == [f"web{between}", f"worker{between.replace('nginx', 'app:1')}"]
