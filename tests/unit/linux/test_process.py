"""What a process does to itself: forked children look at it."""

import os
import subprocess
import sys

from wherry.linux import process


def run(program: str) -> str:
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_title_takes_the_command_lines_place() -> None:
    shown = run(
        "from wherry.linux.process import Title\n"
        "Title().set('wherry-test')\n"
        "print(open('/proc/self/cmdline').read().strip(chr(0)))\n"
    )
    assert shown == "wherry-test\n"


def test_a_title_that_is_too_long_is_cut() -> None:
    shown = run(
        "from wherry.linux.process import Title\n"
        "Title().set('x' * 100000)\n"
        "text = open('/proc/self/cmdline').read()\n"
        "print(set(text.rstrip(chr(0))), len(text) < 100000)\n"
    )
    assert shown == "{'x'} True\n"


def test_fork_gives_a_pidfd() -> None:
    pid, pidfd = process.fork()
    if pid == 0:
        os._exit(7)
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert ended is not None
    assert (ended.si_pid, ended.si_status) == (pid, 7)
    os.close(pidfd)


def test_signals_are_as_a_program_expects_them() -> None:
    shown = run(
        "from wherry.linux import process\n"
        "import signal\n"
        "process.ignore_signal(signal.SIGQUIT)\n"
        "process.restore_signals()\n"
        "process.ignore_signal(signal.SIGTERM)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "process.reset_signals()\n"
        "status = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "print(int(status['SigBlk'], 16), int(status['SigIgn'], 16) & ~(3 << 31))\n"  # 32 and 33 are the C library's
    )
    assert shown == "0 0\n"


def test_descriptors_from_a_number_on() -> None:
    first = os.open("/dev/null", os.O_RDONLY)
    pid, pidfd = process.fork()
    if pid == 0:
        process.close_from(first)
        os._exit(int(os.path.exists(f"/proc/self/fd/{first}")))
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert ended is not None
    assert (ended.si_code, ended.si_status) == (os.CLD_EXITED, 0)
    os.close(pidfd)
    os.close(first)


def test_a_name_is_what_ps_shows() -> None:
    shown = run(
        "from wherry.linux import process\n"
        "process.set_name('a-name-that-is-too-long')\n"
        "print(open('/proc/self/comm').read(), end='')\n"
    )
    assert shown == "a-name-that-is-\n"
