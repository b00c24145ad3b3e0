"""A small PID 1 for programs that do not reap orphans or do not handle signals: --init.

It stays what it is, a copy of this engine's process, but as the container's user, with the container's capabilities and
filter, undumpable and without descriptors. It passes signals on and ends as its child ends.
"""

import os
import signal

from wherry.linux import process
from wherry.runtime.channel import Channel

_NAME = "wherry-init"
# Those that say something of a process itself are not passed on.
_OWN = frozenset(
    (
        signal.SIGCHLD,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGTRAP,
        signal.SIGSYS,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGKILL,
        signal.SIGSTOP,
    )
)


def stand_before_child(channel: Channel) -> None:
    """Forks. The child returns, to become the program; the parent stays as the reaper and never returns."""
    passed_on = signal.valid_signals() - _OWN
    signal.pthread_sigmask(signal.SIG_BLOCK, passed_on | {signal.SIGCHLD})
    has_terminal = os.isatty(0)
    child = os.fork()
    if child == 0:
        if has_terminal:
            _take_terminal()
        return
    channel.close()
    process.set_name(_NAME)
    process.close_from(0)
    _reap(child, passed_on)


def _take_terminal() -> None:
    """The program becomes the terminal's foreground process group, so that Ctrl-C is its own."""
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
    os.tcsetpgrp(0, os.getpgrp())


def _reap(child: int, passed_on: set[signal.Signals]) -> None:
    waited = passed_on | {signal.SIGCHLD}
    while True:
        received = signal.sigwaitinfo(waited)
        if received.si_signo != signal.SIGCHLD:
            try:
                os.kill(child, received.si_signo)
            except ProcessLookupError:
                continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(0)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
