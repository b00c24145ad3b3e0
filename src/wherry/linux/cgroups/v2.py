"""Limits and counters of cgroup v2: one directory for all controllers.

The limits come in v1's units, as the Docker API and the OCI runtime spec have them, and are converted here.
"""

import ctypes
import errno
import math
import os
import struct
from collections.abc import Callable, Collection, Mapping, Sequence

from wherry.linux.cgroups.types import (
    BlkioEntry,
    BlkioStats,
    CgroupError,
    CpuStats,
    DeviceRule,
    MemoryStats,
    PidsStats,
    Resources,
    Stats,
    read,
    read_number,
    read_numbers,
    set_cpuset,
    set_pids,
    write,
)
from wherry.linux.syscalls import SyscallError, check, system_call

# The device rules of cgroup v2: an eBPF program that the kernel asks at each open and mknod.
#
# The program is put together by hand, an instruction of eight bytes at a time (``linux/bpf.h``: opcode, two registers,
# offset, constant), so that no compiler and no library is needed. In words:
#
#     for each rule, the last one first:
#         if type, major and minor are the rule's:
#             an allowing rule takes its kinds of access off what is asked for; when nothing is left: allow
#             a denying rule that covers any of what is left: deny
#     what no rule speaks of is allowed only when the rules say so (as in v1, where a cgroup starts with all allowed)

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


def attach_device_filter(directory: str, rules: Sequence[DeviceRule]) -> None:
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


DEFAULT_CPU_PERIOD = 100_000
"""Microseconds; the kernel's own."""


def cpu_weight(shares: int) -> int:
    """v1's shares (2 to 262144, default 1024) as v2's weight (1 to 10000, default 100).

    The parabola through those three points on logarithmic axes that runc, crun and Kubernetes agreed on in 2025; a
    straight line would make 1024 shares a weight of 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def io_weight(blkio_weight: int) -> int:
    """v1's blkio weight (10 to 1000) as v2's io weight (1 to 10000), linearly."""
    return 1 + (blkio_weight - 10) * 9999 // 990


def swap_limit(memory_swap: int, memory: int | None) -> int:
    """v1 limits the sum of memory and swap, v2 swap alone; -1 is no limit. ValueError when they contradict."""
    if memory_swap == -1 or memory is None or memory == -1:
        return memory_swap
    if memory_swap < memory:
        raise ValueError(f"memory and swap together ({memory_swap}) must be at least the memory alone ({memory})")
    return memory_swap - memory


def _or_max(value: int) -> int | str:
    return "max" if value == -1 else value


def _refuse(directory: str, limit: str) -> CgroupError:
    return CgroupError(errno.EOPNOTSUPP, "limit", directory, detail=f"cgroup v2 has no {limit}")


def set_memory(directory: str, resources: Resources) -> None:
    """Swap before memory: a memory limit that is too low for what is in use then finds where to put it."""
    memory, swap = resources.memory, resources.memory_swap
    if resources.memory_swappiness is not None:
        raise _refuse(directory, "swappiness")
    if resources.oom_kill_disable:
        raise _refuse(directory, "way to disable the OOM killer")
    if swap is None and memory == -1:
        swap = -1
    if swap is not None:
        try:
            beside = swap_limit(swap, memory if memory is not None else read_number(f"{directory}/memory.max"))
        except ValueError as error:
            raise CgroupError(errno.EINVAL, "limit the swap of", directory, detail=str(error)) from error
        # A kernel without swap accounting has no such file; then "all of it" and "none" are what it does anyway.
        if beside not in (-1, 0) or os.path.exists(f"{directory}/memory.swap.max"):
            write(f"{directory}/memory.swap.max", _or_max(beside))
    if memory is not None:
        write(f"{directory}/memory.max", _or_max(memory))
    if resources.memory_reservation is not None:
        write(f"{directory}/memory.low", _or_max(resources.memory_reservation))


def set_cpu(directory: str, resources: Resources) -> None:
    """Weight, and quota with period: they share one file, so that one that is not given is kept."""
    if resources.cpu_rt_runtime is not None or resources.cpu_rt_period is not None:
        raise _refuse(directory, "real-time scheduling limit")
    if resources.cpu_shares is not None:
        write(f"{directory}/cpu.weight", cpu_weight(resources.cpu_shares))
    quota, period = resources.cpu_quota, resources.cpu_period
    if quota is None and period is None:
        return
    path = f"{directory}/cpu.max"
    old_quota, _, old_period = read(path).partition(" ")
    if quota is not None:
        old_quota = str(quota) if quota > 0 else "max"
    write(path, f"{old_quota} {period or old_period or DEFAULT_CPU_PERIOD}")


def set_io(directory: str, resources: Resources) -> None:
    """Weights (bfq's own file where that scheduler is loaded, which takes v1's scale) and throttles."""
    bfq = f"{directory}/io.bfq.weight"
    has_bfq = os.path.exists(bfq)
    if resources.blkio_weight is not None:
        if has_bfq:
            write(bfq, resources.blkio_weight)
        else:
            write(f"{directory}/io.weight", io_weight(resources.blkio_weight))
    for device in resources.blkio_weight_device:
        number = f"{device.major}:{device.minor}"
        if has_bfq:
            write(bfq, f"{number} {device.rate}")
        else:
            write(f"{directory}/io.weight", f"{number} {io_weight(device.rate)}")
    for key, devices in (
        ("rbps", resources.blkio_read_bps),
        ("wbps", resources.blkio_write_bps),
        ("riops", resources.blkio_read_iops),
        ("wiops", resources.blkio_write_iops),
    ):
        for device in devices:
            write(f"{directory}/io.max", f"{device.major}:{device.minor} {key}={device.rate or 'max'}")


def set_devices(directory: str, resources: Resources) -> None:
    """v2 has no files for devices, but asks an eBPF program."""
    attach_device_filter(directory, resources.devices)


SETTERS: Mapping[str, Callable[[str, Resources], None]] = {
    "memory": set_memory,
    "cpu": set_cpu,
    "cpuset": set_cpuset,
    "pids": set_pids,
    "blkio": set_io,
    "devices": set_devices,
}
"""By v1's names, which is what the rest of the engine knows them by."""


def read_cpu(directory: str) -> CpuStats:
    """cpu.stat is there even without the cpu controller, but for the throttling."""
    stat = read_numbers(f"{directory}/cpu.stat")
    return CpuStats(
        total=stat.get("usage_usec", 0) * 1000,
        user=stat.get("user_usec", 0) * 1000,
        system=stat.get("system_usec", 0) * 1000,
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_time=stat.get("throttled_usec", 0) * 1000,
    )


def read_memory(directory: str) -> MemoryStats:
    """Usage, peak (Linux 5.19), limit and memory.stat."""
    peak = f"{directory}/memory.peak"
    return MemoryStats(
        usage=int(read(f"{directory}/memory.current")),
        peak=int(read(peak)) if os.path.exists(peak) else 0,
        limit=read_number(f"{directory}/memory.max"),
        failures=read_numbers(f"{directory}/memory.events").get("oom", 0),
        detail=read_numbers(f"{directory}/memory.stat"),
    )


def read_pids(directory: str) -> PidsStats:
    """Reads how many there are in the cgroup and those below it."""
    return PidsStats(current=int(read(f"{directory}/pids.current")), limit=read_number(f"{directory}/pids.max"))


def read_io(directory: str) -> BlkioStats:
    """Lines "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6"."""
    tables: dict[str, list[BlkioEntry]] = {"bytes": [], "ios": []}
    ops = {"r": "read", "w": "write"}
    for line in read(f"{directory}/io.stat").splitlines():
        device, *counters = line.split()
        major, _, minor = device.partition(":")
        for counter in counters:
            key, _, value = counter.partition("=")
            if key[:1] in ops and key[1:] in tables:
                tables[key[1:]].append(BlkioEntry(int(major), int(minor), ops[key[0]], int(value)))
    return BlkioStats(service_bytes=tuple(tables["bytes"]), serviced=tuple(tables["ios"]))


def read_stats(directory: str, controllers: Collection[str]) -> Stats:
    """``controllers`` are those that are on in this cgroup, by v2's names."""
    return Stats(
        cpu=read_cpu(directory),
        memory=read_memory(directory) if "memory" in controllers else MemoryStats(),
        pids=read_pids(directory) if "pids" in controllers else PidsStats(),
        blkio=read_io(directory) if "io" in controllers else BlkioStats(),
    )
