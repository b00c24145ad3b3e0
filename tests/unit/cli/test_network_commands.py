"""network create, connect, rm and inspect, against an engine that answers from a script."""

import json
from collections.abc import Callable

import pytest

from tests.support.scripted_engine import ScriptedEngine, answer, error, json_answer

Call = Callable[..., tuple[int, str, str]]


def test_what_lies_in_a_subnet_goes_with_it(engine: ScriptedEngine, call: Call) -> None:
    engine.on("POST", "/networks/create", json_answer({"Id": "1" * 64}, status=201))
    flags = "--ipv6 --subnet 10.1.0.0/16,fd00:1::/64 --gateway fd00:1::9 --gateway 10.1.0.9 --ip-range 10.1.2.0/24"
    code, out, _ = call("network", "create", *flags.split(), "--aux-address", "router=10.1.0.7", "net")
    assert (code, out) == (0, "1" * 64 + "\n")
    (asked,) = (json.loads(each.body) for each in engine.requests if each.path.endswith("/networks/create"))
    assert asked["EnableIPv6"] is True
    assert asked["IPAM"]["Config"] == [
        {
            "Subnet": "10.1.0.0/16",
            "IPRange": "10.1.2.0/24",
            "Gateway": "10.1.0.9",
            "AuxiliaryAddresses": {"router": "10.1.0.7"},
        },
        {"Subnet": "fd00:1::/64", "Gateway": "fd00:1::9"},
    ]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--subnet 10.1.0.0/33", "invalid CIDR address: 10.1.0.0/33"),
        ("--subnet 10.1.0.0", "invalid CIDR address: 10.1.0.0"),
        ("--subnet 10.1.0.0/16 --ip-range x", "invalid CIDR address: x"),
        ("--subnet 10.1.0.0/16 --gateway 10.2.0.1", "no matching subnet for gateway 10.2.0.1"),
        ("--subnet 10.1.0.0/16 --gateway x", "invalid IP address: x"),
        ("--subnet 10.1.0.0/16 --aux-address a=10.2.0.1", "no matching subnet for aux-address 10.2.0.1"),
        ("--gateway 10.2.0.1", "every ip-range or gateway must have a corresponding subnet"),
    ],
)
def test_subnets_that_make_no_sense(call: Call, flags: str, complaint: str) -> None:
    code, out, err = call("network", "create", *flags.split(), "net")
    assert (code, out) == (1, "")
    assert complaint in err


def test_rm_by_force_says_nothing_of_what_is_not_there(engine: ScriptedEngine, call: Call) -> None:
    engine.on("DELETE", "/networks/(a|c)", answer(status=204))
    engine.on("DELETE", "/networks/b", error(404, "network b not found"))
    assert call("network", "rm", "-f", "a", "b", "c") == (0, "a\nc\n", "")
    assert call("network", "rm", "a", "b", "c") == (1, "a\nc\n", "Error response from daemon: network b not found\n")


def test_inspect_takes_verbose(engine: ScriptedEngine, call: Call) -> None:
    engine.on("GET", "/networks/a", json_answer({"Name": "a"}))
    assert call("network", "inspect", "-v", "-f", "{{.Name}}", "a") == (0, "a\n", "")
