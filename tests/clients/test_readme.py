"""Every line of the README's examples is pasted into a shell and run, as by somebody who tries one after the other.

The shell sees this machine's files, but folders of its own where wherry is installed and keeps its data, and later on a
network of its own, so that neither an engine of this machine nor its ports are in the way.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.engine import CACHE, PROJECT, docker_cli
from tests.support.terminal import Terminal

# What is not run, and why.
NOT_RUN = {
    "make demo": "scripts/clean_room.sh runs it, as CI does",
    "make test": "scripts/clean_room.sh runs it, as CI does; this is part of it",
    "apt-get install": "scripts/environment.sh has installed these, and would not upgrade them",
    "/usr/local/lib/wherry/bin/pip install --upgrade": "there is no network by then; it is the install's command",
    "rm -r /var/lib/wherry": "the folders are mount points here",
    "wherry push registry.example.org/app": "there is no such registry; test_registry.py pushes to one",
}
# What is typed once this has appeared, and how the command then ends.
ANSWERS = {
    "wherry run --rm -it debian": (r"root@\w+:/# ", "exit\r", 0),
    "docker logs --follow clock": (r"\d\d:\d\d:\d\d", "\x03", 130),
}
# Output that is another one on each distribution.
VARYING = {"Debian GNU/Linux 12 \\n \\l": r"(Debian GNU/Linux|Ubuntu) \S+.* \\n \\l"}

_INSTALLED = "ln -s "  # what follows needs no network but that of its containers
_PROMPT = r"\n<(\d+)> "
_SECONDS = 200  # pip may have to fetch something

# A process namespace whose end is that of all which was started, and mounts that nobody else sees
_ENTER = """
set -e
mount -t proc proc /proc
mkdir -p /run/wherry /var/lib/wherry
mount -t tmpfs wherry /run/wherry
mount --bind "$1/data" /var/lib/wherry
mount -t tmpfs local "$1/local"
mkdir "$1/local/upper" "$1/local/work"
mount -t overlay -o "lowerdir=/usr/local,upperdir=$1/local/upper,workdir=$1/local/work" local /usr/local
cd "$1/clone"
PS1='\\n<$?> ' exec bash --norc --noprofile --noediting -i
"""


class Example(NamedTuple):
    command: str
    output: list[str]


def examples() -> list[Example]:
    """The commands of all fenced blocks, each with the output that is shown for it."""
    found: list[Example] = []
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", (PROJECT / "README.md").read_text(), re.M | re.S):
        if language == "python":
            found.append(Example(f"/usr/local/lib/wherry/bin/python - <<'END'\n{block}END", []))
        elif language == "ini":
            (program,) = re.findall(r"^ExecStart=(\S+)", block, re.M)
            found.append(Example(f"{program} --version", []))  # a unit is no command: what it starts is there
        else:
            assert language == "console", f"the README has a block of {language}, which this test does not know"
            for line in block.splitlines():
                if line.startswith("# "):
                    found.append(Example(line.removeprefix("# "), []))
                else:
                    found[-1].output.append(line)
    return found


@pytest.fixture
def shell(_images: None) -> Iterator[Terminal]:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    docker_cli()
    new = [path for path in ("/run/wherry", "/var/lib/wherry") if not os.path.exists(path)]
    directory = Path(tempfile.mkdtemp(prefix="readme-", dir="/var/tmp"))
    try:
        for name in ("data", "local", "home"):
            (directory / name).mkdir()
        kept = shutil.ignore_patterns(".*", "tests", "__pycache__")
        shutil.copytree(PROJECT, directory / "clone", ignore=kept)
        (directory / "clone" / ".cache").symlink_to(CACHE)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "WHERRY_"))}
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh", str(directory)]
        environment = {**clean, "HOME": str(directory / "home"), "TERM": "dumb"}
        with Terminal(command, env=environment, columns=1000) as terminal:
            terminal.expect(_PROMPT)
            terminal.send("stty -echo; hash -r\r")
            terminal.expect(_PROMPT)
            yield terminal
            terminal.send("wherry rm --force $(wherry ps --all --quiet)\r")  # their cgroups outlive the namespace
            with contextlib.suppress(AssertionError):
                terminal.expect(_PROMPT)
    finally:
        shutil.rmtree(directory)
        for path in new:
            os.rmdir(path)


def run(shell: Terminal, command: str) -> tuple[str, int]:
    """What a command prints, and its exit code."""
    before = shell.output
    shell.send(command.replace("\n", "\r") + "\r")
    wait_for, keys, expected = ANSWERS.get(command, ("", "", 0))
    if keys:
        shell.expect(wait_for)
        shell.send(keys)
    code = int(shell.expect(_PROMPT, _SECONDS)[1])
    return shell.output[len(before) :].replace("\r\n", "\n").rpartition("\n<")[0], 0 if code == expected else code or 1


@pytest.mark.timeout(600)
def test_every_line_of_the_readme(shell: Terminal) -> None:
    marked = set(NOT_RUN)
    for command, shown in examples():
        mark = next((mark for mark in NOT_RUN if command.startswith(mark)), None)
        if mark:
            marked.discard(mark)
            continue
        output, code = run(shell, command)
        assert code == 0, f"{command}\n{output}"
        for line in shown:
            pattern = VARYING.get(line, re.escape(line))
            assert re.search(f"^{pattern}$", output, re.M), f"{command}\n{output}\nhas no line {line}"
        if command.startswith(_INSTALLED):
            run(shell, "exec unshare --net bash --norc --noprofile --noediting -i")
            assert run(shell, "ip link set lo up")[1] == 0
    assert not marked, f"the README has no such lines any more: {marked}"
