"""Stops processes that enter a container at each of their system calls, and looks at what the container sees.

Run as a program, as root: ``python -m tests.support.stepping INIT PID…``. The PIDs are the engine's launcher and
monitors; what they fork is stepped through until it executes a program of the container's. INIT is the container's
first process. Prints one JSON object: how often it looked, all that was seen of each new process in the container's
/proc, and the programs of those that were open to a container with the host's processes. Ends when the standard input
does.
"""

import ctypes
import json
import os
import socket
import sys
import threading
from typing import Any

from wherry.linux import capabilities

SEIZE, CONT, SYSCALL, DETACH, GETEVENTMSG, INTERRUPT, LISTEN = 0x4206, 7, 24, 17, 0x4201, 0x4207, 0x4208
OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10  # tell system calls from signals, follow forks, vforks and clones, tell of execs
EVENT_STOP, EVENT_EXEC = 128, 4
WALL = 0x40000000
SIGTRAP = 5

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, pid: int, data: int = 0) -> bool:
    return bool(_libc.ptrace(request, pid, None, data) >= 0)


class Looking:
    """What was seen, by the process ids in the container."""

    def __init__(self, init: int, engine: int) -> None:
        with open(f"/proc/{engine}/environ", "rb") as file:  # which names folders of the engine's
            self._secrets = [
                word.partition(b"=")[2] for word in file.read().split(b"\0") if word.startswith(b"WHERRY_")
            ]
        self._program = os.stat(f"/proc/{init}/exe").st_dev
        self._proc = f"/proc/{init}/root/proc"
        root = os.stat(f"/proc/{init}/root")
        self._root = (root.st_dev, root.st_ino)
        self._known = set(self._pids())
        self.seen: dict[int, dict[str, Any]] = {}
        self.looks = 0

    def _pids(self) -> list[int]:
        return [int(name) for name in os.listdir(self._proc) if name.isdigit()]

    def look(self) -> None:
        self.looks += 1
        for pid in self._pids():
            if pid not in self._known:
                try:
                    self._look_at(pid, f"{self._proc}/{pid}")
                except (FileNotFoundError, ProcessLookupError):
                    continue

    def _look_at(self, pid: int, path: str) -> None:
        program = os.readlink(f"{path}/exe")
        if os.stat(f"{path}/exe").st_dev in (self._program, os.stat(f"{path}/root").st_dev):
            return  # it is the container's own by now
        root = os.stat(f"{path}/root")
        with open(f"{path}/status", encoding="ascii") as file:
            status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
        with open(f"{path}/environ", "rb") as file:
            environment = file.read().strip(b"\0")
        with open(f"{path}/cmdline", "rb") as file:
            command = file.read().strip(b"\0")
        with open(f"{path}/maps", encoding="utf-8") as file:
            mappings = [line.split(None, 5) for line in file.read().splitlines()]
        facts = {
            "program": program,
            "mapped": sorted({mapping[5] for mapping in mappings if len(mapping) > 5 and mapping[5][0] == "/"}),
            "secrets": self._find_secrets(f"{path}/mem", [mapping[0] for mapping in mappings if mapping[1][0] == "r"]),
            "root": (root.st_dev, root.st_ino) == self._root,
            "cwd": os.readlink(f"{path}/cwd"),
            "capabilities": status["CapEff"],
            "bounding": status["CapBnd"],
            "uid": status["Uid"].split()[0],
            "seccomp": status["Seccomp"],
            "environ": environment.decode(errors="replace"),
            "cmdline": command.decode(errors="replace"),
            "descriptors": len(os.listdir(f"{path}/fd")),
            "files": [link for fd in os.listdir(f"{path}/fd") if (link := os.readlink(f"{path}/fd/{fd}"))[0] == "/"],
            "net": os.readlink(f"{path}/ns/net"),
        }
        if os.readlink(f"{path}/exe") != program:
            return  # it has become the container's own meanwhile
        found = self.seen.setdefault(pid, {"pid": pid, "looks": 0})
        found["looks"] += 1
        for name, value in facts.items():
            values = found.setdefault(name, [])
            if value not in values:
                values.append(value)

    def _find_secrets(self, path: str, mappings: list[str]) -> int:
        """How many things of the engine's are in the memory."""
        found = 0
        with open(path, "rb", buffering=0) as memory:
            for mapping in mappings:
                start, end = (int(number, 16) for number in mapping.split("-"))
                try:
                    memory.seek(start)
                    content = memory.read(end - start)
                except (OSError, OverflowError):  # the kernel's own pages
                    continue
                found += sum(secret in content for secret in self._secrets)
        return found


class Witness:
    """A process with the user and the capabilities that a container has by default, and with the host's processes.

    ``programs``: the executables of those that the kernel let it look at.
    """

    def __init__(self) -> None:
        self.programs: set[str] = set()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self._line.close()
            self._serve(theirs)
            os._exit(0)
        theirs.close()

    def look_at(self, pid: int) -> None:
        self._line.send(str(pid).encode())
        if program := self._line.recv(4096).decode().strip("\0"):
            self.programs.add(program)

    def _serve(self, line: socket.socket) -> None:
        capabilities.set_process(capabilities.DEFAULT)
        while asked := line.recv(100):
            try:
                program = os.readlink(f"/proc/{asked.decode()}/exe")
            except OSError:
                program = ""
            line.send(program.encode() + b"\0")


def executes_its_own(pid: int) -> bool:
    return not os.readlink(f"/proc/{pid}/exe").startswith("/memfd:wherry-init")


def main() -> None:
    init, *traced = map(int, sys.argv[1:])
    witness = Witness()
    looking = Looking(init, traced[0])
    roots = set(traced)
    for pid in traced:
        if not ptrace(SEIZE, pid, OPTIONS):
            raise SystemExit(f"cannot trace {pid}: {os.strerror(ctypes.get_errno())}")
    print("ready", flush=True)
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while not ended.is_set():
        try:
            pid, status = os.waitpid(-1, WALL | os.WNOHANG)
        except ChildProcessError:
            break
        if not pid:
            ended.wait(0.0005)
            continue
        if not os.WIFSTOPPED(status):
            continue
        stop, event = os.WSTOPSIG(status), status >> 16
        if pid in roots:
            ptrace(
                LISTEN if event == EVENT_STOP and stop != SIGTRAP else CONT, pid, 0 if event or stop & 0x80 else stop
            )
            continue
        if event == EVENT_EXEC and executes_its_own(pid):
            ptrace(DETACH, pid)
            continue
        looking.look()
        witness.look_at(pid)
        ptrace(SYSCALL, pid, 0 if event or stop & 0x80 or stop == SIGTRAP else stop)
    found = {"looks": looking.looks, "seen": list(looking.seen.values()), "open": sorted(witness.programs)}
    print(json.dumps(found), flush=True)
    os._exit(0)  # the kernel lets go of those that are still traced


if __name__ == "__main__":
    main()
