"""Queries, filters and bodies, read by Docker's rules."""

from types import SimpleNamespace
from typing import Any

import pytest

from wherry.api.request import parse_timestamp


@pytest.fixture
def listed(engine: SimpleNamespace) -> dict[str, Any]:
    """What GET /containers/json hands to the engine."""
    asked: dict[str, Any] = {}

    async def list_all(**options: Any) -> list[Any]:
        asked.update(options)
        return []

    engine.views.list_all = list_all
    return asked


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("", False), ("all", False), ("all=", False), ("all=0", False), ("all=no", False), ("all=False", False),
        ("all=none", False), ("all=%20no%20", False), ("all=1", True), ("all=true", True), ("all=yes", True),
        ("all=anything", True),
    ],
)  # fmt: skip
async def test_what_counts_as_true(client: Any, listed: dict[str, Any], query: str, value: bool) -> None:
    assert (await client("GET", f"/containers/json?{query}")).status == 200
    assert listed["show_all"] is value


@pytest.mark.parametrize(
    "filters",
    ['{"status":["running"],"label":["a=b"]}', '{"status":{"running":true},"label":{"a=b":false}}'],
)
async def test_filters_in_both_forms(client: Any, listed: dict[str, Any], filters: str) -> None:
    assert (await client("GET", f"/containers/json?filters={filters.replace('=', '%3D')}")).status == 200
    assert listed["filters"] == {"status": ["running"], "label": ["a=b"]}


@pytest.mark.parametrize("filters", ["nonsense", '["status"]', '{"status":"running"}', '{"status":[1]}'])
async def test_what_is_no_filter(client: Any, listed: dict[str, Any], filters: str) -> None:
    answer = await client("GET", f"/containers/json?filters={filters}")
    assert (answer.status, answer.message) == (400, "invalid filter")


async def test_numbers(client: Any, listed: dict[str, Any]) -> None:
    assert (await client("GET", "/containers/json?limit=-1")).status == 200
    assert listed["limit"] == -1
    answer = await client("GET", "/containers/json?limit=many")
    assert (answer.status, answer.message) == (400, 'strconv.Atoi: parsing "many": invalid syntax')


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("h=x&w=80", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("h=24", 'strconv.Atoi: parsing "": invalid syntax'),
        ("h=24&w=65536", 'strconv.Atoi: parsing "65536": value out of range'),
    ],
)
async def test_sizes_of_terminals(client: Any, query: str, message: str) -> None:
    answer = await client("POST", f"/containers/x/resize?{query}")
    assert (answer.status, answer.message) == (400, message)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("", None),
        ("0", 0),
        ("1700000000", 1_700_000_000_000_000_000),
        ("1700000000.000000001", 1_700_000_000_000_000_001),
        ("1700000000.5", 1_700_000_000_500_000_000),
        ("1700000000.", 1_700_000_000_000_000_000),
        ("1700000000.0123456789999", 1_700_000_000_012_345_678),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
        ("2023-11-14T23:13:20.25+01:00", 1_700_000_000_250_000_000),
    ],
)
def test_moments(text: str, moment: int | None) -> None:
    assert parse_timestamp(text) == moment


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", 'strconv.ParseInt: parsing "soon": invalid syntax'),
        ("1.x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("1e9", 'strconv.ParseInt: parsing "1e9": invalid syntax'),
        ("99999999999999999999", 'strconv.ParseInt: parsing "99999999999999999999": value out of range'),
        ("2023-13-40T00:00:00Z", 'invalid timestamp "2023-13-40T00:00:00Z": neither seconds since 1970 nor RFC 3339'),
        ("--5", 'invalid timestamp "--5": neither seconds since 1970 nor RFC 3339'),
    ],
)
async def test_what_is_no_moment(client: Any, engine: SimpleNamespace, text: str, message: str) -> None:
    answer = await client("GET", f"/events?since={text}")
    assert (answer.status, answer.message) == (400, message)


@pytest.fixture
def created(engine: SimpleNamespace) -> list[Any]:
    """What POST /containers/create hands to the engine."""
    asked: list[Any] = []

    async def create(*arguments: Any) -> tuple[str, list[str]]:
        asked[:] = arguments
        return "0123", ["careful"]

    engine.containers.create = create
    return asked


async def test_create(client: Any, created: list[Any]) -> None:
    body = {
        "Image": "busybox",
        "cmd": ["true"],
        "Labels": None,
        "HostConfig": {"AutoRemove": True, "Memory": None},
        "NetworkingConfig": {"EndpointsConfig": {"n": None}},
    }
    answer = await client("POST", "/v1.51/containers/create?name=mine&platform=linux/amd64", body)
    assert (answer.status, answer.json) == (201, {"Id": "0123", "Warnings": ["careful"]})
    config, host, networking, name, platform = created
    assert (config.image, config.cmd, config.labels) == ("busybox", ["true"], {})
    assert (host.auto_remove, host.memory) == (True, 0)
    assert networking.endpoints_config == {"n": None}
    assert (name, platform) == ("mine", "linux/amd64")


@pytest.mark.parametrize(
    ("raw", "headers", "message"),
    [
        (b"{", {}, "invalid JSON: "),
        (b" ", {}, "invalid JSON: got EOF while reading request body"),
        (b"[]", {}, "invalid JSON: expected object, got list"),
        (b"null", {}, "config cannot be empty in order to create a container"),
        (b"{}", {"Content_Type": "text/plain"}, "unsupported Content-Type header (text/plain): must be"),
        (b"{}", {"Content_Type": ""}, "malformed Content-Type header (): mime: no media type"),
        (b'{"Image":5}', {}, "invalid JSON: Image: expected str, got int"),
        (b'{"Image":"a","HostConfig":{"Memory":"1g"}}', {}, "invalid JSON: HostConfig.Memory: expected int, got str"),
    ],
)
async def test_bodies_that_are_refused(
    client: Any, created: list[Any], raw: bytes, headers: dict[str, str], message: str
) -> None:
    answer = await client("POST", "/containers/create", raw=raw, **headers)
    assert answer.status == 400
    assert answer.message.startswith(message)
    assert not created


async def test_a_content_type_may_have_parameters(client: Any, created: list[Any]) -> None:
    answer = await client("POST", "/containers/create", {"Image": "a"}, Content_Type="application/json; charset=utf-8")
    assert answer.status == 201


async def test_a_body_without_end_is_cut_off(client: Any, created: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.api.request.MAX_BODY", 1 << 20)
    answer = await client("POST", "/containers/create", raw=b'{"Image":"' + b"a" * (2 << 20))
    assert answer.status == 400
    assert answer.message.startswith("request body too large")


async def test_start_takes_no_body(client: Any) -> None:
    answer = await client("POST", "/containers/x/start", {"Binds": ["/:/host"]})
    assert answer.status == 400
    assert "removed in v1.24" in answer.message


async def test_older_clients_mean_the_defaults_of_their_day(client: Any, created: list[Any]) -> None:
    body = {"Image": "a", "HostConfig": {"ConsoleSize": [5, 6], "Annotations": {"a": "b"}}}
    await client("POST", "/v1.39/containers/create", body)
    assert (created[1].ipc_mode, created[1].console_size, created[1].annotations) == ("shareable", (0, 0), {})
    await client("POST", "/v1.51/containers/create", body)
    assert (created[1].ipc_mode, created[1].console_size, created[1].annotations) == ("", (5, 6), {"a": "b"})


async def test_mount_options_of_another_type(client: Any, created: list[Any]) -> None:
    body = {"Image": "a", "HostConfig": {"Mounts": [{"Type": "bind", "Target": "/x", "TmpfsOptions": {}}]}}
    answer = await client("POST", "/v1.51/containers/create", body)
    assert (answer.status, answer.message) == (400, 'TmpfsOptions must not be specified on mount type "bind"')
    assert (await client("POST", "/v1.41/containers/create", body)).status == 201


async def test_the_signal_to_stop_with_is_heard_since_1_42(client: Any, engine: SimpleNamespace) -> None:
    asked = []

    async def stop(name: str, timeout: int | None, signal: str | None) -> None:
        asked.append((name, timeout, signal))

    engine.containers.stop = stop
    assert (await client("POST", "/v1.41/containers/x/stop?t=3&signal=SIGINT")).status == 204
    assert (await client("POST", "/v1.42/containers/x/stop?signal=SIGINT")).status == 204
    assert asked == [("x", 3, None), ("x", None, "SIGINT")]


async def test_bodies_are_bounded_in_their_sum(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several clients that each send a little less than the limit, and none of them the end."""
    monkeypatch.setattr("wherry.api.request.MAX_ALL", 3 << 20)
    writers = []
    for _ in range(2):
        _, writer = await client.send("POST", "/containers/create", raw=b"", Content_Length=str(2 << 20),
                                      Content_Type="application/json")  # fmt: skip
        writer.write(b" " * ((2 << 20) - 1))
        await writer.drain()
        writers.append(writer)
    answer = await client("POST", "/containers/create", raw=b" " * (1 << 20) + b"{}")
    assert (answer.status, answer.message) == (503, "more than 3 MiB of JSON are being read: try again later")
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    assert (await client("POST", "/containers/create", raw=b" " * (1 << 20) + b"{}")).status == 400
