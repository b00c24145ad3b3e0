"""The way out for an ordinary user's containers: a program that has an interface in the engine's network namespace, and
speaks in the machine's by sockets of the user's own.

It outlives the engine as containers do. That it runs is seen by its interface, which goes with it.
"""

import contextlib
import logging
import os
import shutil
import signal
import subprocess

from wherry.network import bridge

log = logging.getLogger("wherry.network")

PROGRAMS = ("pasta", "slirp4netns")
_NAMES = (*PROGRAMS, "passt")  # by which the kernel knows them: pasta executes one for the processor, passt.avx2
INTERFACE = "tap0"
_SECONDS = 10  # that one may take to be ready
_MTU = "65520"


class UserModeNetwork:
    """``namespace`` is the file of the network namespace, ``pid_file`` names the process."""

    def __init__(self, namespace: str, pid_file: str) -> None:
        self._namespace = namespace
        self._pid_file = pid_file
        self._failure = ""
        if not bridge.exists(INTERFACE):
            self.stop()  # of a namespace that is no more

    @property
    def lack(self) -> str:
        """Why nothing outside is reached; "" when it is, or has not been tried."""
        if any(map(shutil.which, PROGRAMS)):
            return self._failure
        return f"neither of {' and '.join(PROGRAMS)} is installed (Debian's packages are passt and slirp4netns)"

    def start(self) -> None:
        """Returns when the interface has its addresses; at once when it has them."""
        if bridge.exists(INTERFACE):
            return
        failures = []
        for program, command in (("pasta", self._start_pasta), ("slirp4netns", self._start_slirp)):
            if shutil.which(program):
                try:
                    command()
                    self._failure = ""
                    return
                except (OSError, subprocess.SubprocessError) as error:
                    failures.append(_words(program, error))
        self._failure = "; ".join(failures)
        log.warning("containers reach nothing outside: %s", self.lack)

    def stop(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            with open(self._pid_file, encoding="ascii") as file:
                pid = int(file.read())
            pidfd = os.pidfd_open(pid)
            try:
                with open(f"/proc/{pid}/comm", encoding="utf-8") as name:
                    if name.read().strip().partition(".")[0] in _NAMES:
                        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            finally:
                os.close(pidfd)
            os.unlink(self._pid_file)

    def _start_pasta(self) -> None:
        """Nothing is forwarded by it, and no address stands for the machine's own 127.0.0.1: services there are not for
        containers."""
        words = ["--config-net", "--no-map-gw", "--netns-only", "--netns", self._namespace, "--ns-ifname", INTERFACE]
        forwarded = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]
        subprocess.run(
            ["pasta", "--quiet", *words, *forwarded, "--pid", self._pid_file],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            check=True, text=True, timeout=_SECONDS,
        )  # fmt: skip

    def _start_slirp(self) -> None:
        """It stays in the foreground, and tells by a pipe that it is ready."""
        ready, tell = os.pipe()
        try:
            with open(f"{self._pid_file}.log", "wb") as log_file:
                process = subprocess.Popen(
                    ["slirp4netns", "--configure", "--enable-ipv6", f"--mtu={_MTU}", "--disable-host-loopback",
                     "--netns-type=path", f"--ready-fd={tell}", self._namespace, INTERFACE],
                    stdin=subprocess.DEVNULL, stdout=log_file, stderr=log_file, pass_fds=(tell,),
                    start_new_session=True,
                )  # fmt: skip
            os.close(tell)
            tell = -1
            if not os.read(ready, 1):
                with open(f"{self._pid_file}.log", encoding="utf-8", errors="replace") as said:
                    raise subprocess.CalledProcessError(process.wait(), "slirp4netns", stderr=said.read())
            with open(self._pid_file, "w", encoding="ascii") as file:
                file.write(f"{process.pid}\n")
        finally:
            os.close(ready)
            if tell >= 0:
                os.close(tell)


def _words(program: str, error: Exception) -> str:
    said = getattr(error, "stderr", None)
    lines = said.strip().splitlines() if isinstance(said, str) else []
    return f"{program}: {lines[-1] if lines else error}"
