"""Compiles a seccomp profile to a BPF program. libseccomp knows the numbers; the program is put together here.

A filter is paid for at each container start and each exec: the kernel checks and translates it, and runs it for some
900 call numbers to note which are always allowed. What libseccomp makes of the default profile takes 1.1 ms to install
(as a list of rules 3.3 ms), and 29 ms to make. But most calls that are allowed are neighbours, so that a search over
ranges of numbers does with less than half the instructions, and 0.6 ms (0.4 of which an empty filter takes as well):

    the architecture? (a program may call the kernel by any ABI that it has, at any moment)
        the number: halve, halve, halve
            allowed, refused, or not known
            or look at the arguments, one alternative after the other

What libseccomp does and the kernel does not ask for is the same here: a rule without conditions counts for the call
whatever others say; of several of these, the first does.
"""

import errno
import os
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from wherry.linux.seccomp import Argument, Condition, Profile, ProfileError, Rule

MACHINES = {
    # What uname says: Docker's name, libseccomp's name
    "x86_64": ("amd64", "X86_64"),
    "i686": ("x86", "X86"),
    "aarch64": ("arm64", "AARCH64"),
    "armv7l": ("arm", "ARM"),
    "riscv64": ("riscv64", "RISCV64"),
}

AUDIT_ARCHITECTURES = {
    # linux/audit.h. x32 calls say that they are of x86-64, with a bit in their number.
    "X86_64": 0xC000003E,
    "X32": 0xC000003E,
    "X86": 0x40000003,
    "AARCH64": 0xC00000B7,
    "ARM": 0x40000028,
    "RISCV64": 0xC00000F3,
}
NARROW = {"X86", "ARM"}
"""ABIs whose arguments have 32 bits."""
X32_BIT = 0x40000000
X32_OWN = 512

# linux/seccomp.h
KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, LOG, ALLOW = (
    0x80000000,
    0,
    0x30000,
    0x50000,
    0x7FF00000,
    0x7FFC0000,
    0x7FFF0000,
)
ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
ACTIONS_WITH_NUMBER = {"SCMP_ACT_ERRNO": ERRNO, "SCMP_ACT_TRACE": TRACE}

# 32-bit x86 has two ways to each of these: through socketcall and ipc, whose first argument says which, and directly
# (most since Linux 4.3 and 5.1). libseccomp answers with numbers of its own: -100 - n and -200 - n for the former.
SOCKETCALL, IPC = 102, 117
X86_DIRECT = {
    "socket": 359,
    "socketpair": 360,
    "bind": 361,
    "connect": 362,
    "listen": 363,
    "accept4": 364,
    "getsockopt": 365,
    "setsockopt": 366,
    "getsockname": 367,
    "getpeername": 368,
    "sendto": 369,
    "sendmsg": 370,
    "recvfrom": 371,
    "recvmsg": 372,
    "shutdown": 373,
    "recvmmsg": 337,
    "sendmmsg": 345,
    "semget": 393,
    "semctl": 394,
    "shmget": 395,
    "shmctl": 396,
    "shmat": 397,
    "shmdt": 398,
    "msgget": 399,
    "msgsnd": 400,
    "msgrcv": 401,
    "msgctl": 402,
}

Alternative = tuple[tuple[Argument, ...], int]
"""When all these conditions hold, this action."""
Verdict = int | tuple[Alternative, ...]
"""An action, or alternatives: the first that holds, else the default."""

# linux/filter.h
LOAD, AND, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
# struct seccomp_data: the number, the architecture, the instruction pointer, six arguments of 64 bits
NUMBER_OFFSET, ARCHITECTURE_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16
LONGEST_JUMP = 255  # of a condition; "ja" has no such limit
MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS


@lru_cache(maxsize=32)
def compile_for(profile: Profile, capabilities: frozenset[str], machine: str) -> bytes:
    """The program for a machine ("x86_64") and those of a container's capabilities that the profile asks about."""
    library = _libseccomp()
    if machine not in MACHINES:
        raise ProfileError(f"there is no seccomp support for {machine}; use --security-opt seccomp=unconfined")
    docker_name, native = MACHINES[machine]
    default = _action(profile.default_action, profile.default_errno_ret)
    rules = [rule for rule in profile.syscalls or () if _applies(rule, capabilities, docker_name)]
    tables = {abi: _verdicts(library, abi, rules) for abi in dict.fromkeys((native, *_other_abis(profile, native)))}
    program = _program(tables, default)
    if len(program) > MOST_INSTRUCTIONS:
        raise ProfileError(f"the seccomp profile needs {len(program)} instructions; Linux takes {MOST_INSTRUCTIONS}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _libseccomp() -> Any:
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as error:
        raise ProfileError(
            "seccomp filters need the library libseccomp (Debian: apt install libseccomp2); install it, "
            "or run the container with --security-opt seccomp=unconfined"
        ) from error
    return pyseccomp


def _other_abis(profile: Profile, native: str) -> Iterator[str]:
    """The ABIs that the profile wants beside the native one, which is always filtered."""
    names = list(profile.architectures or ())
    for entry in profile.arch_map or ():
        if entry.architecture == f"SCMP_ARCH_{native}":
            names += entry.sub_architectures or ()
    for name in names:
        abi = name.removeprefix("SCMP_ARCH_")
        if abi not in AUDIT_ARCHITECTURES or abi == name:
            raise ProfileError(f"the seccomp profile names the architecture {name}, which is not supported")
        yield abi


def _action(name: str, number: int | None) -> int:
    if name in ACTIONS_WITH_NUMBER:
        return ACTIONS_WITH_NUMBER[name] | (errno.EPERM if number is None else number) & 0xFFFF
    if name in ACTIONS:
        return ACTIONS[name]
    raise ProfileError(f"the seccomp profile has the action {name or '(none)'}, which is not supported")


def _applies(rule: Rule, capabilities: frozenset[str], arch: str) -> bool:
    wanted, unwanted = rule.includes or Condition(), rule.excludes or Condition()
    if (
        arch in (unwanted.arches or ())
        or any(capability in capabilities for capability in unwanted.caps or ())
        or (unwanted.min_kernel and _kernel_is(unwanted.min_kernel))
    ):
        return False
    return (
        (not wanted.arches or arch in wanted.arches)
        and all(capability in capabilities for capability in wanted.caps or ())
        and (not wanted.min_kernel or _kernel_is(wanted.min_kernel))
    )


def _kernel_is(minimum: str) -> bool:
    """Whether the running kernel is that version ("4.8") or a later one."""
    major, dot, minor = minimum.partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise ProfileError(f'invalid kernel version: {minimum}, expected "<kernel>.<major>"')
    running = os.uname().release.split(".", 2)
    digits = "".join(c if c.isdecimal() else " " for c in running[1]).split()  # "6.1-rc3"
    return (int(running[0]), int(digits[0])) >= (int(major), int(minor))


def _verdicts(library: Any, abi: str, rules: list[Rule]) -> dict[int, Verdict]:
    """What becomes of each system call of an ABI that the rules speak of, by its number."""
    token = getattr(library.Arch, abi)
    always: dict[int, int] = {}
    sometimes: dict[int, list[Alternative]] = {}
    for rule in rules:
        action = _action(rule.action, rule.errno_ret)
        alternatives = _alternatives(rule)
        for name in rule.all_names():
            for number, selector in _numbers(abi, name, library.resolve_syscall(token, name)):
                if selector is not None:  # the real arguments are behind a pointer: no filter can look at them
                    sometimes.setdefault(number, []).append(((selector,), action))
                elif alternatives:
                    sometimes.setdefault(number, []).extend((conditions, action) for conditions in alternatives)
                else:
                    always.setdefault(number, action)
    return {number: tuple(found) for number, found in sometimes.items()} | always


def _numbers(abi: str, name: str, number: int) -> Iterator[tuple[int, Argument | None]]:
    """The numbers of a call, with what its first argument must be when it shares a number with others."""
    if number >= 0:
        yield number, None
    elif abi == "X86":
        if -200 < number < -100:
            yield SOCKETCALL, Argument(0, "SCMP_CMP_EQ", -number - 100)
        elif -300 < number < -200:
            yield IPC, Argument(0, "SCMP_CMP_EQ", -number - 200)
        if name in X86_DIRECT:
            yield X86_DIRECT[name], None


def _alternatives(rule: Rule) -> list[tuple[Argument, ...]]:
    """Conditions on different arguments must hold together; Docker has always taken two on the same one as "or"."""
    arguments = rule.args or ()
    for argument in arguments:
        if argument.op not in CONDITIONS:
            raise ProfileError(f"the seccomp profile has the operator {argument.op}, which is not known")
        if not 0 <= argument.index < 6:
            raise ProfileError(f"the seccomp profile has a condition on argument {argument.index}; they are 0 to 5")
    if len({argument.index for argument in arguments}) < len(arguments):
        return [(argument,) for argument in arguments]
    return [arguments] if arguments else []


def _segments(known: Mapping[int, Verdict], default: int, start: int = 0) -> list[tuple[int, Verdict]]:
    """The number line of an ABI, from ``start`` on, as ranges with one verdict each, by where they begin.

    Calls that are newer than all that the profile names are unknown, if the profile refuses what it does not name:
    refused with its EPERM they would break programs, since a C library that tries a new call first goes back to the
    old one only when it hears that there is no such call.
    """
    unknown = default if default in (ALLOW, LOG) or default >> 16 == TRACE >> 16 else ERRNO | errno.ENOSYS
    segments: list[tuple[int, Verdict]] = []

    def append(number: int, verdict: Verdict) -> None:
        if not segments or segments[-1][1] != verdict:
            segments.append((number, verdict))

    for number in sorted(known):
        if number > start:
            append(start, default)
        append(number, known[number])
        start = number + 1
    append(start, unknown)
    return segments


Instruction = tuple[int, int, int, int]
"""Code, how far to jump when it holds, and when not, constant: as in struct sock_filter."""


def _program(tables: Mapping[str, Mapping[int, Verdict]], default: int) -> list[Instruction]:
    program: list[Instruction] = [(LOAD, 0, 0, ARCHITECTURE_OFFSET)]
    for abi, known in tables.items():
        if abi == "X32":  # comes with x86-64
            continue
        section = [(LOAD, 0, 0, NUMBER_OFFSET)]
        segments = _segments(known, default)
        if abi == "X86_64" and "X32" in tables:
            # x32 has x86-64's numbers, and its own from 512 on, where x86-64 has none: one search does for both.
            section.append((AND, 0, 0, ~X32_BIT & 0xFFFFFFFF))
            own = {n & ~X32_BIT: v for n, v in tables["X32"].items() if n >= X32_BIT | X32_OWN}
            segments += _segments(own, default, X32_OWN)
        elif abi == "X86_64":
            section += [(JUMP_GREATER_EQUAL, 0, 1, X32_BIT), (RETURN, 0, 0, KILL_THREAD)]
        section += _search(segments, default, abi in NARROW)
        program += [(JUMP_EQUAL, 1, 0, AUDIT_ARCHITECTURES[abi]), (JUMP, 0, 0, len(section)), *section]
    return [*program, (RETURN, 0, 0, KILL_THREAD)]  # an ABI that the profile does not know


def _search(segments: list[tuple[int, Verdict]], default: int, narrow: bool) -> list[Instruction]:
    """Halves the ranges until there is one."""
    if len(segments) == 1:
        verdict = segments[0][1]
        if isinstance(verdict, int):
            return [(RETURN, 0, 0, verdict)]
        tests = [step for conditions, action in verdict for step in _alternative(conditions, action, narrow)]
        return [*tests, (RETURN, 0, 0, default)]
    middle = len(segments) // 2
    lower, upper = (_search(half, default, narrow) for half in (segments[:middle], segments[middle:]))
    start = segments[middle][0]
    if len(lower) <= LONGEST_JUMP:
        return [(JUMP_GREATER_EQUAL, len(lower), 0, start), *lower, *upper]
    return [(JUMP_GREATER_EQUAL, 0, 1, start), (JUMP, 0, 0, len(lower)), *lower, *upper]


NEXT, PASS, FAIL = "next", "pass", "fail"
Step = tuple[int, int, str, str]
"""Code, constant, and where to go: on, behind this condition, or behind the alternative."""

CONDITIONS: Mapping[str, tuple[list[tuple[int, str, str]], list[tuple[int, str, str]]]] = {
    # On the upper half of the argument, then on the lower one.
    "SCMP_CMP_EQ": ([(JUMP_EQUAL, NEXT, FAIL)], [(JUMP_EQUAL, PASS, FAIL)]),
    "SCMP_CMP_NE": ([(JUMP_EQUAL, NEXT, PASS)], [(JUMP_EQUAL, FAIL, PASS)]),
    "SCMP_CMP_GT": ([(JUMP_GREATER, PASS, NEXT), (JUMP_EQUAL, NEXT, FAIL)], [(JUMP_GREATER, PASS, FAIL)]),
    "SCMP_CMP_GE": ([(JUMP_GREATER, PASS, NEXT), (JUMP_EQUAL, NEXT, FAIL)], [(JUMP_GREATER_EQUAL, PASS, FAIL)]),
    "SCMP_CMP_LT": ([(JUMP_GREATER, FAIL, NEXT), (JUMP_EQUAL, NEXT, PASS)], [(JUMP_GREATER_EQUAL, FAIL, PASS)]),
    "SCMP_CMP_LE": ([(JUMP_GREATER, FAIL, NEXT), (JUMP_EQUAL, NEXT, PASS)], [(JUMP_GREATER, FAIL, PASS)]),
    "SCMP_CMP_MASKED_EQ": ([(JUMP_EQUAL, NEXT, FAIL)], [(JUMP_EQUAL, PASS, FAIL)]),
}


def _alternative(conditions: tuple[Argument, ...], action: int, narrow: bool) -> list[Instruction]:
    """Falls off its end when a condition does not hold."""
    tests = [_test(argument, narrow) for argument in conditions]
    end = sum(len(test) for test in tests) + 1
    instructions: list[Instruction] = []
    for test in tests:
        behind = len(instructions) + len(test)
        for code, constant, if_true, if_false in test:
            here = len(instructions) + 1
            distance = {NEXT: 0, PASS: behind - here, FAIL: end - here}
            instructions.append((code, distance[if_true], distance[if_false], constant))
    return [*instructions, (RETURN, 0, 0, action)]


def _test(argument: Argument, narrow: bool) -> list[Step]:
    """One condition. BPF works on 32 bits, so that an argument takes two loads, but for ABIs that have no more."""
    masked = argument.op == "SCMP_CMP_MASKED_EQ"
    mask = argument.value if masked else (1 << 64) - 1
    value = argument.value_two if masked else argument.value
    upper, lower = CONDITIONS[argument.op]
    offset = ARGUMENTS_OFFSET + 8 * argument.index
    steps: list[Step] = []
    for shift, place, tests in ((32, offset + 4, upper), (0, offset, lower)):
        half_mask = mask >> shift & 0xFFFFFFFF
        half = value >> shift & 0xFFFFFFFF
        if shift and (narrow or (not half_mask and not half)):
            continue
        steps.append((LOAD, place, NEXT, NEXT))
        if half_mask != 0xFFFFFFFF:
            steps.append((AND, half_mask, NEXT, NEXT))
        steps += [(code, half, if_true, if_false) for code, if_true, if_false in tests]
    return steps
