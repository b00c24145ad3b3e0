"""The part of the classic BPF machine that seccomp filters use, so that a test can ask a program for its verdict."""

import functools
import struct

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
KILL_THREAD = 0


def run(program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = 0xC000003E) -> int:
    """What the filter answers to this system call. Little-endian."""
    arguments += (0,) * (6 - len(arguments))
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *arguments)
    instructions = _decode(program)
    accumulator: int = 0
    counter = 0
    while True:
        code, if_true, if_false, constant = instructions[counter]
        counter += 1
        match code:
            case 0x20:  # ld [constant]
                (accumulator,) = struct.unpack_from("<I", data, constant)
            case 0x54:  # and
                accumulator &= constant
            case 0x05:  # ja
                counter += constant
            case 0x15:  # jeq
                counter += if_true if accumulator == constant else if_false
            case 0x25:  # jgt
                counter += if_true if accumulator > constant else if_false
            case 0x35:  # jge
                counter += if_true if accumulator >= constant else if_false
            case 0x45:  # jset
                counter += if_true if accumulator & constant else if_false
            case 0x06:  # ret
                return int(constant)
            case _:
                raise AssertionError(f"instruction {code:#x} at {counter - 1}")


@functools.lru_cache(maxsize=8)
def _decode(program: bytes) -> list[tuple[int, int, int, int]]:
    return [
        (code, if_true, if_false, constant)
        for code, if_true, if_false, constant in struct.iter_unpack("=HBBI", program)
    ]
