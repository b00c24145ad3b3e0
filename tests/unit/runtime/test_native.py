"""wherry-init: what is seen in a container before its own program, and with --init beside it."""

import hashlib
import os
import platform
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.runtime import execute

NATIVE = Path(execute.__file__).parent / "native"
SOURCE = NATIVE / "wherry-init.c"
BUILD = Path(__file__).parents[3] / "scripts" / "native.sh"
EMULATOR = Path(__file__).parents[3] / ".cache/qemu-aarch64-static/qemu-aarch64-static"
SHELL = ("sh", "-c")

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(params=["its machine code", "built now", "aarch64 emulated"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Starts it with the work and the arguments; what it says of a failure is in ``failures``."""
    program: list[str] = [str(NATIVE / f"wherry-init.{platform.machine()}")]
    if request.param == "built now":
        if not shutil.which(f"{platform.machine()}-linux-gnu-gcc"):
            pytest.skip("no compiler")
        program = [str(tmp_path / "init")]
        subprocess.run([BUILD, platform.machine(), *program], check=True)
    elif request.param == "aarch64 emulated":
        if not EMULATOR.exists():
            pytest.skip("no emulator: scripts/fixtures.sh brings it")
        program = [str(EMULATOR), "-0", "wherry-init", str(NATIVE / "wherry-init.aarch64")]

    def begin(*arguments: str) -> "subprocess.Popen[bytes]":
        (tmp_path / "failures").write_bytes(b"")
        (tmp_path / "id").write_bytes(bytes(4096))
        name = program if len(program) > 1 else ["wherry-init"]

        def place() -> None:
            for file, at, flags in (("failures", 60, os.O_WRONLY), ("id", 61, os.O_RDWR)):
                os.dup2(os.open(tmp_path / file, flags), at, inheritable=True)

        return subprocess.Popen(
            [*name, *arguments],
            executable=program[0],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            preexec_fn=place,
            close_fds=False,  # or those would be closed
        )

    return begin


def failure(tmp_path: Path) -> int:
    return int.from_bytes((tmp_path / "failures").read_bytes(), "little", signed=True)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64", "loongarch64"])
def test_the_machine_code_is_of_its_source(machine: str) -> None:
    built_of = hashlib.sha256(SOURCE.read_bytes()).hexdigest().encode()
    assert built_of in (NATIVE / f"wherry-init.{machine}").read_bytes(), "scripts/native.sh builds it"


def test_the_program_has_its_arguments_and_nothing_more(start: Start) -> None:
    started = start("-4", "a name", "-c", 'echo "$0" "$@"; ls /proc/$$/fd', "first", "", "last one", "/bin/sh")
    output, _ = started.communicate()
    line, *descriptors = output.decode().splitlines()
    assert line == "first  last one"
    assert "60" not in descriptors


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 137), ("kill -15 $$", 143)])
def test_an_init_ends_as_its_program_does(start: Start, script: str, code: int) -> None:
    assert start("-4", *SHELL, script, "/bin/sh").wait() == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGRTMIN + 3])
def test_an_init_hands_signals_on(start: Start, number: int) -> None:
    script = f"trap 'exit 9' {int(number)}; echo ready; while :; do sleep 0.02; done"
    started = start("-4", *SHELL, script, "/bin/sh")
    assert started.stdout is not None and started.stdout.readline() == b"ready\n"
    started.send_signal(number)
    assert started.wait(10) == 9


def test_a_program_that_cannot_be_executed_is_told(start: Start, tmp_path: Path) -> None:
    assert start("-4", "x", "/nosuch").wait() == 255
    assert failure(tmp_path) == 2
    (tmp_path / "text").write_text("")
    (tmp_path / "text").chmod(0o755)
    assert start("-4", "x", str(tmp_path / "text")).wait() == 255
    assert failure(tmp_path) == 8


@pytest.mark.parametrize(
    "arguments", [(), ("-4",), ("-4", "/bin/true"), ("-8", "x", "/bin/true"), ("-0", "x", "/bin/true"),
                  ("44", "x", "/bin/true"), ("-44", "x", "/bin/true"), ("", "x", "/bin/true")],
)  # fmt: skip
def test_nonsense_does_nothing(start: Start, arguments: tuple[str, ...]) -> None:
    """The container may execute it, by /proc/1/exe."""
    assert start(*arguments).wait() == 255


def test_who_joins_goes_on_as_another_child_of_its_parent(tmp_path: Path, start: Start) -> None:
    started = start("-1", *SHELL, "echo $$ $PPID; exit 5", "/bin/sh")
    if "qemu" in str(started.args):
        started.communicate()
        pytest.skip("the emulator does not know CLONE_PARENT")
    assert started.stdout is not None
    pid, parent = map(int, started.stdout.readline().split())
    assert parent == os.getpid() and started.wait() == 0
    assert int.from_bytes((tmp_path / "id").read_bytes()[:4], "little") == pid
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


def test_who_joins_ends_with_its_parent(tmp_path: Path) -> None:
    """The kernel forgets at a fork whom it was to end with."""
    (tmp_path / "id").write_bytes(bytes(4096))
    parent = os.fork()
    if parent == 0:
        os.dup2(os.open(tmp_path / "id", os.O_RDWR), 61)
        program = str(NATIVE / f"wherry-init.{platform.machine()}")
        os.posix_spawn(program, ("wherry-init", "-1", "sleep", "100", "/bin/sleep"), {})
        os.wait()
        signal.pause()
    deadline = time.monotonic() + 10
    while not (pid := int.from_bytes((tmp_path / "id").read_bytes()[:4], "little")):
        assert time.monotonic() < deadline
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":
        assert time.monotonic() < deadline
    joined = os.pidfd_open(pid)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert select.select([joined], [], [], 10)[0]
    os.close(joined)
