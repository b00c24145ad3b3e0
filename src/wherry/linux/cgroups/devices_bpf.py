"""The device rules of cgroup v2: an eBPF program that the kernel asks at each open and mknod.

The program is put together by hand, an instruction of eight bytes at a time (``linux/bpf.h``: opcode, two registers,
offset, constant), so that no compiler and no library is needed. In words:

    for each rule, the last one first:
        if type, major and minor are the rule's:
            an allowing rule takes its kinds of access off what is asked for; when nothing is left: allow
            a denying rule that covers any of what is left: deny
    what no rule speaks of is allowed only when the rules say so (as in v1, where a cgroup starts with all allowed)
"""

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

from wherry.linux.cgroups.files import CgroupError
from wherry.linux.cgroups.resources import DeviceRule
from wherry.linux.errors import SyscallError
from wherry.linux.syscalls import check, system_call

# linux/bpf.h
BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_PROG_DETACH, BPF_PROG_GET_FD_BY_ID, BPF_PROG_QUERY = 5, 8, 9, 13, 16
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2
DEVICE_TYPES = {"b": 1, "c": 2}
ACCESS_BITS = {"m": 1, "r": 2, "w": 4}
ALL_ACCESS = 7
MAX_PROGRAMS = 64  # a cgroup takes no more

_bpf_call = system_call("bpf", ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)

# Opcodes: class | operation | source. R0 result, R1 context, R2 type, R3 access, R4 major, R5 minor, R6 scratch.
LOAD_WORD = 0x61  # dst = *(u32 *)(src + offset)
MOVE = 0xB7  # dst = constant
MOVE_REGISTER = 0xBF  # dst = src
AND = 0x57
SHIFT_RIGHT = 0x77
JUMP_NOT_EQUAL = 0x55
JUMP_EQUAL = 0x15
EXIT = 0x95

Instruction = tuple[int, int, int, int, int]  # opcode, destination, source, offset, constant


def compile_rules(rules: Sequence[DeviceRule]) -> bytes:
    """The program for these rules; it answers 1 to allow and 0 to deny. Later rules override earlier ones."""
    program: list[Instruction] = [
        (LOAD_WORD, 2, 1, 0, 0),
        (MOVE_REGISTER, 3, 2, 0, 0),
        (AND, 2, 0, 0, 0xFFFF),
        (SHIFT_RIGHT, 3, 0, 0, 16),
        (LOAD_WORD, 4, 1, 4, 0),
        (LOAD_WORD, 5, 1, 8, 0),
    ]
    default = True
    for rule in reversed(rules):
        access = _access(rule)
        if rule.kind == "a" and access == ALL_ACCESS and rule.major is None and rule.minor is None:
            default = rule.allow
            break
        program += _block(rule, access)
    program += _answer(default)
    return b"".join(
        struct.pack("=BBhI", opcode, source << 4 | destination, offset, constant)
        for opcode, destination, source, offset, constant in program
    )


def _access(rule: DeviceRule) -> int:
    try:
        return sum(ACCESS_BITS[letter] for letter in set(rule.access))
    except KeyError as error:
        raise ValueError(f"invalid device access {rule.access!r}: it is made of r, w and m") from error


def _block(rule: DeviceRule, access: int) -> list[Instruction]:
    """One rule: conditions that jump behind it, then what it says."""
    conditions: list[tuple[int, int]] = []
    if rule.kind != "a":
        conditions.append((2, DEVICE_TYPES[rule.kind]))
    if rule.major is not None:
        conditions.append((4, rule.major))
    if rule.minor is not None:
        conditions.append((5, rule.minor))
    if rule.allow:
        verdict = [(AND, 3, 0, 0, ALL_ACCESS & ~access), (JUMP_NOT_EQUAL, 3, 0, 2, 0), *_answer(True)]
    else:
        verdict = [
            (MOVE_REGISTER, 6, 3, 0, 0),
            (AND, 6, 0, 0, access),
            (JUMP_EQUAL, 6, 0, 2, 0),
            *_answer(False),
        ]
    rest = len(conditions) + len(verdict)
    jumps = [
        (JUMP_NOT_EQUAL, register, 0, rest - index - 1, constant)
        for index, (register, constant) in enumerate(conditions)
    ]
    return jumps + verdict


def _answer(allow: bool) -> list[Instruction]:
    return [(MOVE, 0, 0, 0, int(allow)), (EXIT, 0, 0, 0, 0)]


def attach(directory: str, rules: Sequence[DeviceRule]) -> None:
    """Puts the rules in force for a v2 cgroup, in place of those that were. Raises CgroupError.

    The new program is attached before the old ones go: all that are attached must allow, so there is no open moment.
    """
    target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        old = _attached(target)
        program = _load(compile_rules(rules))
        try:
            _bpf(BPF_PROG_ATTACH, struct.pack("=IIII", target, program, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI))
        finally:
            os.close(program)
        for program_id in old:
            _detach(target, program_id)
    except OSError as error:
        raise CgroupError(error.errno or errno.EIO, "set the device rules (eBPF) of", directory) from error
    finally:
        os.close(target)


def _load(program: bytes) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    license_name = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQ",
        BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_name),
    )
    while True:
        try:
            return _bpf(BPF_PROG_LOAD, attributes)
        except SyscallError as error:
            if error.errno != errno.EAGAIN:  # a signal came while the verifier was at work
                raise


def _attached(target: int) -> list[int]:
    """The ids of the programs that are attached to this very cgroup."""
    ids = (ctypes.c_uint32 * MAX_PROGRAMS)()
    # Linux 6.17 and later write the field "revision" at the end, whatever size they are told: so there is room for it.
    attributes = ctypes.create_string_buffer(
        struct.pack("=IIIIQI", target, BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), MAX_PROGRAMS), 64
    )
    _bpf(BPF_PROG_QUERY, attributes)
    count: int = struct.unpack_from("=I", attributes, 24)[0]
    return list(ids[:count])


def _detach(target: int, program_id: int) -> None:
    program = _bpf(BPF_PROG_GET_FD_BY_ID, struct.pack("=I", program_id))
    try:
        _bpf(BPF_PROG_DETACH, struct.pack("=III", target, program, BPF_CGROUP_DEVICE))
    finally:
        os.close(program)


def _bpf(command: int, attributes: "bytes | ctypes.Array[ctypes.c_char]") -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes)) if isinstance(attributes, bytes) else attributes
    return check(_bpf_call(command, ctypes.addressof(buffer), len(buffer)), f"bpf (command {command})")
