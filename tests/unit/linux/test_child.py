"""A process that shares this one's memory: what it does of itself, and what is the same on both sides."""

import contextlib
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from wherry.linux import child, process
from wherry.linux.child import Child
from wherry.linux.execution import Calls, execution

SOURCE = Path(child.__file__).parent / "native" / "child.c"
COMPILER = shutil.which(f"{platform.machine()}-linux-gnu-gcc")


@pytest.fixture
def other() -> Iterator[Child]:
    made = Child()
    yield made
    made.discard()


def ended(made: Child) -> int:
    status = os.waitid(os.P_PIDFD, made.pidfd, os.WEXITED)
    os.close(made.pidfd)
    assert status is not None
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


def test_a_function_is_called_in_another_process(other: Child) -> None:
    assert other.call(os.getpid) == other.pid != os.getpid()
    assert os.waitid(os.P_PIDFD, other.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def test_what_it_changes_of_the_process_is_its_own_and_what_it_changes_in_memory_is_not(other: Child) -> None:
    here, seen = os.getcwd(), []
    umask = os.umask(0o022)
    other.call(lambda: (os.chdir("/"), os.umask(0o077), seen.append("x")))
    assert (os.getcwd(), seen) == (here, ["x"])
    assert os.umask(umask) == 0o022
    assert other.call(os.getcwd) == "/"


def test_an_exception_is_for_who_waits(other: Child) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            other.call(lambda: 1 // 0)
    assert other.call(os.getpid) == other.pid


def test_descriptors_are_common_until_it_leaves(other: Child) -> None:
    opened = other.call(lambda: os.open("/", os.O_PATH))
    os.close(opened)
    other.call(process.unshare_descriptors)
    opened = other.call(lambda: os.open("/", os.O_PATH))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened)


def test_it_becomes_a_program_with_these_arguments_and_this_environment(tmp_path: Path) -> None:
    made = Child()
    written = os.open(tmp_path / "written", os.O_CREAT | os.O_WRONLY)

    def become() -> Calls:
        process.unshare_descriptors()
        os.dup2(written, 1)
        return execution("/bin/sh", ("a name", "-c", 'echo "$0|$*|$A"; exit 7', "zero", "", "é"), ("A=b c",))

    assert made.execute(become) is None
    os.close(written)
    assert ended(made) == 7
    assert (tmp_path / "written").read_text() == "zero| é|b c\n"


def test_the_call_that_fails_is_told() -> None:
    made = Child()
    none_such, memory = execution("/nosuch", ("x",), ())
    assert made.execute(lambda: (((39 if platform.machine() == "x86_64" else 172, *[0] * 6), *none_such), memory)) == (
        1,
        2,
    )
    assert ended(made) == 255
    with pytest.raises(ValueError, match="null"):
        execution("/bin/true", ("a\0b",), ())


def test_one_that_was_killed_while_it_waited_is_told() -> None:
    made = Child()
    os.kill(made.pid, signal.SIGKILL)
    os.waitid(os.P_PIDFD, made.pidfd, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        made.call(os.getpid)
    assert ended(made) == -signal.SIGKILL


def test_its_end_in_a_function_is_the_end_of_both() -> None:
    """In what state the interpreter then is nobody knows."""
    program = (
        "import os\nfrom wherry.linux.child import Child\n"
        "Child().call(lambda: os.kill(os.getpid(), 9))\nprint('went on')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (255, b"")


def fuzz(seed: int, rounds: int = 150) -> None:
    """Any order of what can be asked of one, from this process and from the inside, with a stack that is used."""
    rng = random.Random(seed)
    for _ in range(rounds):
        made = Child()
        depth = rng.randrange(60)

        def deep(left: int = depth) -> int:
            return deep(left - 1) + 1 if left else 0

        for _ in range(rng.randrange(4)):
            assert made.call(deep) == depth
        kind = rng.randrange(5)
        if kind == 0:
            made.discard()
        elif kind == 1:
            os.kill(made.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                made.call(int)
            assert ended(made) == -signal.SIGKILL
        else:
            count, size = rng.randrange(40), rng.randrange(2000)
            path = ("/bin/true", "/nosuch", "/")[kind - 2]
            arguments = [rng.randbytes(size).replace(b"\0", b"").decode("latin-1") for _ in range(count)]
            failed = made.execute(partial(execution, path, ("true", *arguments), ()))
            assert failed == (None, (0, 2), (0, 13))[kind - 2]
            assert ended(made) == (0 if failed is None else 255)


def test_any_order_of_things() -> None:
    before = len(os.listdir("/proc/self/fd"))
    fuzz(1)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(COMPILER is None, reason="no compiler")
@pytest.mark.parametrize("sanitizer", ["address", "undefined"])
def test_the_sanitizers_find_nothing(tmp_path: Path, sanitizer: str) -> None:
    assert COMPILER is not None
    library = subprocess.run(
        [COMPILER, f"-print-file-name=lib{'asan' if sanitizer == 'address' else 'ubsan'}.so"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    if "/" not in library:
        pytest.skip(f"no {sanitizer} sanitizer")
    built = tmp_path / "child.so"
    flags = ["-shared", "-fpic", "-fvisibility=hidden", "-g", "-O1", f"-fsanitize={sanitizer}", '-DSOURCE=""']
    subprocess.run([COMPILER, *flags, "-o", built, SOURCE], check=True)
    program = (
        "import ctypes, sys\nfrom wherry.linux import child\nfrom tests.unit.linux import test_child\n"
        "child._native = child.load(sys.argv[1])\ntest_child.fuzz(2, 60)\nprint('done')"
    )
    environment = os.environ | {
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0,detect_stack_use_after_return=0",
        "PYTHONMALLOC": "malloc",
    }
    done = subprocess.run(
        [sys.executable, "-c", program, built], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
