"""The device program of cgroup v2, run by a small machine of our own."""

import struct
from collections.abc import Sequence

import pytest

from wherry.linux.cgroups import ALL_DEVICES, DEFAULT_DEVICE_RULES, DeviceRule
from wherry.linux.cgroups.v2 import compile_rules

TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}


def allowed(rules: Sequence[DeviceRule], kind: str, major: int, minor: int, access: str) -> bool:
    """What the program for these rules answers."""
    asked = sum(ACCESS[letter] for letter in access) << 16 | TYPES[kind]
    context = struct.pack("=III", asked, major, minor)
    program = list(struct.iter_unpack("=BBhI", compile_rules(rules)))
    registers = [0] * 11
    counter = 0
    while True:
        code, operands, offset, constant = program[counter]
        target, source = operands & 15, operands >> 4
        counter += 1
        match code:
            case 0x61:
                (registers[target],) = struct.unpack_from("=I", context, offset)
            case 0xB7:
                registers[target] = constant
            case 0xBF:
                registers[target] = registers[source]
            case 0x57:
                registers[target] &= constant
            case 0x77:
                registers[target] >>= constant
            case 0x55:
                counter += offset if registers[target] != constant else 0
            case 0x15:
                counter += offset if registers[target] == constant else 0
            case 0x95:
                return bool(registers[0])
            case _:
                raise AssertionError(hex(code))


@pytest.mark.parametrize("minor", [3, 5, 7, 8, 9])
def test_the_default_opens_null_zero_full_random_urandom(minor: int) -> None:
    assert allowed(DEFAULT_DEVICE_RULES, "c", 1, minor, "rw")


def test_the_default_opens_tunnels() -> None:
    assert allowed(DEFAULT_DEVICE_RULES, "c", 10, 200, "rw")


def test_the_default_opens_terminals() -> None:
    assert allowed(DEFAULT_DEVICE_RULES, "c", 136, 4711, "rw")
    assert allowed(DEFAULT_DEVICE_RULES, "c", 5, 2, "rw")


@pytest.mark.parametrize(
    ("kind", "major", "minor"), [("b", 8, 0), ("c", 1, 1), ("c", 1, 4), ("b", 1, 3), ("c", 10, 229)]
)
def test_the_default_lets_any_node_be_made_and_none_be_opened(kind: str, major: int, minor: int) -> None:
    assert allowed(DEFAULT_DEVICE_RULES, kind, major, minor, "m")
    for access in ("r", "w", "rw", "rm"):
        assert not allowed(DEFAULT_DEVICE_RULES, kind, major, minor, access)


def test_privileged_opens_everything() -> None:
    assert allowed(ALL_DEVICES, "b", 8, 0, "rwm")
    assert allowed((*DEFAULT_DEVICE_RULES, *ALL_DEVICES), "b", 8, 0, "rwm")


def test_no_rules_allow_all_as_a_new_cgroup_does() -> None:
    assert allowed((), "b", 8, 0, "rwm")


def test_rules_add_up() -> None:
    rules = (
        DeviceRule(allow=False),
        DeviceRule(allow=True, kind="b", major=8, minor=0, access="r"),
        DeviceRule(allow=True, kind="b", major=8, access="w"),
    )
    assert allowed(rules, "b", 8, 0, "rw")
    assert allowed(rules, "b", 8, 1, "w")
    assert not allowed(rules, "b", 8, 1, "rw")
    assert not allowed(rules, "b", 8, 0, "m")


def test_a_later_denial_outweighs() -> None:
    rules = (*ALL_DEVICES, DeviceRule(allow=False, kind="c", major=10, minor=229, access="rw"))
    assert not allowed(rules, "c", 10, 229, "r")
    assert not allowed(rules, "c", 10, 229, "rm")
    assert allowed(rules, "c", 10, 229, "m")
    assert allowed(rules, "c", 10, 230, "rw")


def test_a_rule_for_both_kinds_with_less_than_all_access() -> None:
    rules = (DeviceRule(allow=False), DeviceRule(allow=True, kind="a", access="r"))
    assert allowed(rules, "b", 8, 0, "r")
    assert not allowed(rules, "b", 8, 0, "w")


def test_access_letters() -> None:
    with pytest.raises(ValueError, match="'rx'"):
        compile_rules([DeviceRule(allow=True, kind="c", access="rx")])
