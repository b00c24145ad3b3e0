"""The default seccomp filter, on a real kernel: what it refuses is refused even to root with all capabilities."""

import ctypes
import errno
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engine import Engine
from wherry.linux import seccomp
from wherry.linux.capabilities import DEFAULT
from wherry.linux.syscalls import SyscallError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a filter needs root or no_new_privs")

NUMBERS = {
    "x86_64": {
        "keyctl": 250,
        "add_key": 248,
        "unshare": 272,
        "mount": 165,
        "bpf": 321,
        "userfaultfd": 323,
        "setns": 308,
    },
    "aarch64": {
        "keyctl": 219,
        "add_key": 217,
        "unshare": 97,
        "mount": 40,
        "bpf": 280,
        "userfaultfd": 282,
        "setns": 268,
    },
}.get(platform.machine(), {}) | {
    "io_uring_setup": 425,
    "open_tree": 428,
    "fsopen": 430,
    "clone3": 435,
    "pidfd_getfd": 438,
}
CLONE_NEWUSER = 0x10000000


@pytest.fixture(scope="module")
def program() -> bytes:
    return seccomp.compile_profile(seccomp.default_profile(), DEFAULT)


def outcome(program: bytes, number: int, *arguments: int) -> int:
    """The errno of one system call under the program, 0 when it worked."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            seccomp.install(program)
            result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
            os.write(writer, bytes([ctypes.get_errno() if result < 0 else 0]))
        finally:
            os._exit(0)
    os.close(writer)
    answer = os.read(reader, 1)
    os.close(reader)
    os.waitpid(pid, 0)
    assert answer, "the child did not live to tell"
    return answer[0]


@pytest.mark.parametrize(
    "name",
    [
        *("keyctl", "add_key", "unshare", "mount", "bpf", "userfaultfd", "setns"),
        *("io_uring_setup", "open_tree", "fsopen", "pidfd_getfd"),
    ],
)
def test_refused(program: bytes, name: str) -> None:
    """A hole: the call does something."""
    if name not in NUMBERS:
        pytest.skip(f"the number of {name} is not known here")
    assert outcome(program, NUMBERS[name], 0, 0, 0, 0, 0) == errno.EPERM


def test_without_the_filter_they_are_not(program: bytes) -> None:
    """That the calls above are refused by the filter, and not by something else."""
    allow_all = seccomp.compile_profile(seccomp.Profile("SCMP_ACT_ALLOW"))
    assert outcome(allow_all, NUMBERS["unshare"], 0) == 0
    assert outcome(program, NUMBERS["unshare"], 0) == errno.EPERM


def test_clone3_and_calls_from_the_future_are_not_there(program: bytes) -> None:
    """A hole: a call whose arguments cannot be looked at, or that nobody knew, is let through."""
    assert outcome(program, NUMBERS["clone3"], 0, 0) == errno.ENOSYS
    assert outcome(program, 3000) == errno.ENOSYS


def test_clone_makes_no_user_namespace(program: bytes) -> None:
    """A hole: a new user namespace, in which all capabilities are had, and so much more of the kernel is reached."""
    number = 56 if platform.machine() == "x86_64" else 220
    assert outcome(program, number, CLONE_NEWUSER | 17, 0, 0, 0, 0) == errno.EPERM


@pytest.mark.parametrize("family", [socket.AF_ALG, socket.AF_VSOCK, socket.AF_ALG | 1 << 32, socket.AF_VSOCK | 1 << 32])
def test_sockets_that_lead_out(program: bytes, family: int) -> None:
    """A hole: a socket to the hypervisor, or to the kernel's ciphers, also with bits above the family's 32."""
    number = 41 if platform.machine() == "x86_64" else 198
    assert outcome(program, number, family, socket.SOCK_STREAM, 0) == errno.EPERM
    assert outcome(program, number, socket.AF_INET, socket.SOCK_STREAM, 0) == 0


def test_ordinary_programs_run(program: bytes) -> None:
    """A filter that refuses these would be switched off by everybody."""
    script = "import threading, subprocess, json; t = threading.Thread(target=print); t.start(); t.join();"
    script += "print(subprocess.run(['true']).returncode)"
    result = subprocess.run(
        [sys.executable, "-I", "-c", script], preexec_fn=lambda: seccomp.install(program), capture_output=True
    )
    assert result.stdout.split() == [b"0"], result.stderr


CALL_BY_32_BIT_ABI = """
    .globl _start
_start:
    movl $288, %eax
    xorl %ebx, %ebx
    int $0x80
    negl %eax
    movl %eax, %ebx
    movl $1, %eax
    int $0x80
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86 only")
@pytest.mark.skipif(not (shutil.which("as") and shutil.which("ld")), reason="needs an assembler")
def test_the_32_bit_abi_is_no_way_around(program: bytes, tmp_path: Path) -> None:
    """keyctl is 288 there; 288 on x86-64 is accept4, which is allowed."""
    (tmp_path / "call.s").write_text(CALL_BY_32_BIT_ABI)
    subprocess.run(["as", "-o", "call.o", "call.s"], cwd=tmp_path, check=True)
    subprocess.run(["ld", "-o", "call", "call.o"], cwd=tmp_path, check=True)
    result = subprocess.run([tmp_path / "call"], preexec_fn=lambda: seccomp.install(program))
    assert result.returncode == errno.EPERM


def test_a_broken_program_is_refused() -> None:
    """A hole: the container runs without a filter."""
    with pytest.raises(SyscallError, match="install the seccomp filter: Invalid argument"):
        seccomp.install(b"\0" * 8)


def test_user_namespaces_of_the_shell_are_refused(program: bytes) -> None:
    """A hole: unshare -Ur succeeds."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare program")
    result = subprocess.run([unshare, "-Ur", "true"], preexec_fn=lambda: seccomp.install(program), capture_output=True)
    assert b"Operation not permitted" in result.stderr


def _seccomp_mode(output: str) -> str:
    return next(line.split()[1] for line in output.splitlines() if line.startswith("Seccomp:"))


def test_a_privileged_exec_has_the_containers_filter(engine: Engine, busybox: str) -> None:
    """A hole: ``exec --privileged`` as a way around the filter that Docker keeps."""
    engine.wherry("run", "-d", "--name", "filtered", busybox, "sleep", "1000", check=True)
    shown = engine.wherry("exec", "--privileged", "filtered", "cat", "/proc/self/status", check=True).stdout
    assert _seccomp_mode(shown) == "2"
    engine.wherry("run", "-d", "--name", "free", "--privileged", busybox, "sleep", "1000", check=True)
    shown = engine.wherry("exec", "free", "cat", "/proc/self/status", check=True).stdout
    assert _seccomp_mode(shown) == "0"


def test_a_profile_holds_for_a_privileged_container(engine: Engine, busybox: str, tmp_path: Path) -> None:
    """A hole: --privileged that drops the profile which was asked for beside it."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    option = f"seccomp={tmp_path / 'profile.json'}"
    refused = engine.wherry("run", "--rm", "--privileged", "--security-opt", option, busybox, "mkdir", "/made")
    assert refused.returncode == 1 and "Operation not permitted" in refused.stderr
    shown = engine.wherry("run", "--rm", "--privileged", busybox, "cat", "/proc/self/status", check=True).stdout
    assert _seccomp_mode(shown) == "0"
