"""Specifications of ports, as -p, --expose and EXPOSE take them, in the words of github.com/docker/go-connections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.common.ports import mappings, parse_exposed, parse_published


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80", [("80/tcp", "", "")]),
        ("80/UDP", [("80/udp", "", "")]),
        ("8080:80", [("80/tcp", "", "8080")]),
        ("127.0.0.1::80", [("80/tcp", "127.0.0.1", "")]),
        ("[::1]:8080:80", [("80/tcp", "::1", "8080")]),
        ("::1:8080:80", [("80/tcp", "::1", "8080")]),
        ("8000-8001:80-81/sctp", [("80/sctp", "", "8000"), ("81/sctp", "", "8001")]),
        ("8000-8009:80", [("80/tcp", "", "8000-8009")]),
    ],
)
def test_mappings(text: str, found: list[tuple[str, str, str]]) -> None:
    assert [(port, binding["HostIp"], binding["HostPort"]) for port, binding in mappings(text)] == found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no port specified: <empty>"),
        ("80:", "no port specified: 80:<empty>"),
        ("x", "invalid containerPort: x"),
        ("65536", "invalid containerPort: 65536"),
        ("81-80", "invalid containerPort: 81-80"),
        ("x:80", "invalid hostPort: x"),
        ("80/icmp", "invalid proto: icmp"),
        ("host:1:80", "invalid IP address: host"),
        ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
    ],
)
def test_what_is_no_mapping(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        mappings(text)
    assert str(caught.value) == error


def test_the_long_form() -> None:
    assert parse_published(["published=8080,target=80,protocol=udp", "81"]) == {
        "80/udp": [{"HostIp": "", "HostPort": "8080"}],
        "81/tcp": [{"HostIp": "", "HostPort": ""}],
    }
    with pytest.raises(ValueError, match="invalid publish opts format"):
        parse_published(["target=80,x"])


@given(st.text(st.sampled_from("0123456789-:/.[]=tcpud"), max_size=12))
def test_any_text_is_a_port_or_refused(text: str) -> None:
    for parse in (parse_published, parse_exposed):
        try:
            found = parse([text])
        except ValueError as error:
            assert "invalid" in str(error) or "no port specified" in str(error)
        else:
            assert all(0 <= int(port.partition("/")[0]) < 1 << 16 for port in found)
