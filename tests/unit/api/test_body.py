"""Bodies as Go's decoder takes them."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.api.request import fit, parse, take
from wherry.common.errors import InvalidParameter
from wherry.model.container import ContainerConfig, ExecConfig, HealthConfig, HostConfig, PortBinding
from wherry.model.network import NetworkingConfig


def test_field_names_match_whatever_their_case() -> None:
    config = fit({"image": "busybox", "CMD": ["ls"], "workingdir": "/tmp"}, ContainerConfig)
    assert (config.image, config.cmd, config.working_dir) == ("busybox", ["ls"], "/tmp")


def test_unknown_fields_are_passed_over() -> None:
    assert fit({"Image": "a", "Sparkles": {"deep": [1]}}, ContainerConfig).image == "a"


def test_null_is_the_same_as_not_there() -> None:
    everything = dict.fromkeys(("Image", "Env", "Labels", "ExposedPorts", "Healthcheck", "Tty", "StopTimeout"))
    assert fit(everything, ContainerConfig) == ContainerConfig()
    assert fit({"Memory": None, "RestartPolicy": None, "Devices": None, "Init": None}, HostConfig) == HostConfig()
    assert fit(None, HostConfig) == HostConfig()


def test_null_inside_lists_and_maps_is_a_zero_value() -> None:
    config = fit({"Cmd": ["a", None], "Labels": {"x": None}, "Volumes": {"/v": None}}, ContainerConfig)
    assert (config.cmd, config.labels, config.volumes) == (["a", ""], {"x": ""}, {"/v": {}})
    assert fit({"PortBindings": {"80/tcp": None}}, HostConfig).port_bindings == {"80/tcp": None}
    assert fit({"PortBindings": {"80/tcp": [None]}}, HostConfig).port_bindings == {"80/tcp": [PortBinding()]}


def test_one_string_will_do_for_a_command() -> None:
    config = fit({"Cmd": "ls -l", "Entrypoint": "sh", "Shell": "bash"}, ContainerConfig)
    assert (config.cmd, config.entrypoint, config.shell) == (["ls -l"], ["sh"], ["bash"])


def test_nested_fields_too() -> None:
    health = fit({"healthcheck": {"TEST": ["CMD", "x"], "interval": None}}, ContainerConfig).healthcheck
    assert health == HealthConfig(test=["CMD", "x"])
    mounts = fit({"Mounts": [{"type": "tmpfs", "TARGET": "/x", "tmpfsoptions": {"sizebytes": 5}}]}, HostConfig).mounts
    assert isinstance(mounts, list)
    assert mounts[0].tmpfs_options is not None
    assert mounts[0].tmpfs_options.size_bytes == 5
    networking = fit(
        {"EndpointsConfig": {"n": {"ipamconfig": {"ipv4address": "10.0.0.2"}}, "m": None}}, NetworkingConfig
    )
    endpoint = networking.endpoints_config["n"]
    assert endpoint is not None
    assert endpoint.ipam_config is not None
    assert endpoint.ipam_config.ipv4_address == "10.0.0.2"
    assert networking.endpoints_config["m"] is None


@pytest.mark.parametrize(
    ("body", "kind", "at", "named"),
    [
        ({"Image": 5}, ContainerConfig, "", "invalid JSON: Image: expected str, got int"),
        ({"Env": "A=1"}, ContainerConfig, "", "invalid JSON: Env: expected array | null, got str"),
        ({"Env": ["A=1", 2]}, ContainerConfig, "", "invalid JSON: Env[1]: expected str, got int"),
        ({"Memory": "1g"}, HostConfig, "HostConfig", "invalid JSON: HostConfig.Memory: expected int, got str"),
        ({"tty": "yes"}, ExecConfig, "", "invalid JSON: Tty: expected bool, got str"),
        ([1], HostConfig, "HostConfig", "invalid JSON: HostConfig: expected object, got array"),
    ],
)
def test_what_is_of_the_wrong_type_is_refused_by_its_name(
    body: object, kind: type[msgspec.Struct], at: str, named: str
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        fit(body, kind, at)
    assert caught.value.message == named


@pytest.mark.parametrize("body", [b"{", b"nonsense", b'{"a":1} {"b":2}', b'{"a":"\xff"}', b"[" * 100_000])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid JSON: "):
        parse(body)


def test_members_are_taken_whatever_their_case() -> None:
    body = {"hostconfig": {"Memory": 1}, "Image": "x"}
    assert take(body, "HostConfig") == {"Memory": 1}
    assert body == {"Image": "x"}
    assert take(body, "HostConfig") is None


words = st.text("abcTest", max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # the machine may be busy
@given(
    st.dictionaries(st.sampled_from(["Image", "env", "CMD", "Labels", "Volumes", "Healthcheck", "Tty"]), json_values)
)
def test_any_body_is_taken_or_refused_in_one_line(body: dict[str, object]) -> None:
    try:
        fit(body, ContainerConfig)
    except InvalidParameter as error:
        assert error.message.startswith("invalid JSON: ")
        assert "\n" not in error.message


@pytest.mark.parametrize(
    "text", [r'{"Cmd": ["a\u0000b"]}', r'{"a\u0000": 1}', r'{"HostConfig": {"Binds": [[{"b": "\u0000"}]]}}']
)
def test_a_null_byte_is_refused_wherever_it_stands(text: str) -> None:
    with pytest.raises(InvalidParameter, match="null byte"):
        parse(text.encode())
    assert parse(text.replace("\\", "\\\\").encode())  # an escaped backslash and digits


@pytest.mark.parametrize("text", [r'["\ud800"]', r'["\ud800abc"]', r'["\udc00\ud800"]', r'["\uDBFF\n"]'])
def test_half_of_a_surrogate_pair_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="surrogate"):
        parse(text.encode())


def test_more_values_than_anybody_needs_are_not_decoded() -> None:
    assert len(parse(b"[" + b"0," * 100_000 + b"0]")) == 100_001
    with pytest.raises(InvalidParameter, match="values"):
        parse(b"[" + b"0," * 300_000 + b"0]")
