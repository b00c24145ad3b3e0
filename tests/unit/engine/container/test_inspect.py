"""Looking at containers: the list with its filters, inspect, the log."""

import asyncio
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from tests.support.api_definition import ApiDefinition
from tests.support.bare_engine import BareEngine
from wherry.api.versions import CURRENT, adapt_container
from wherry.common import times
from wherry.common.errors import Conflict, EngineError, InvalidParameter, NotFound, NotSupported
from wherry.engine.container import stats
from wherry.engine.container.inspect import status_text
from wherry.linux.cgroups import BlkioEntry, BlkioStats, CpuStats, MemoryStats
from wherry.model.container import Health, HealthStatus, HostConfig, LogConfig, MountPoint, PortBinding, State, Status
from wherry.model.network import EndpointSettings
from wherry.runtime.logging.reader import LogQuery

SECOND = 10**9
NAMES = ("aa", "bb", "cc", "dd", "ee")


@pytest.fixture
async def fleet(bare: BareEngine) -> BareEngine:
    """aa is made, bb runs, cc has ended with 3, dd is paused, ee restarts; each is a second younger than the last."""
    other = bare.image("b", tag="other:2")
    bare.loopback_network("shop")
    for number, name in enumerate(NAMES):
        record = await bare.create(name, image="other:2" if name == "cc" else "app", labels={"n": name, "all": ""})
        record.created = number * SECOND
    now = times.now()
    states = {
        "bb": State(Status.RUNNING, started_at=now - 5 * SECOND, health=Health(HealthStatus.HEALTHY)),
        "cc": State(Status.EXITED, exit_code=3, finished_at=now - 120 * SECOND),
        "dd": State(Status.PAUSED, started_at=now - SECOND),
        "ee": State(Status.RESTARTING, exit_code=1, finished_at=now),
    }
    for name, state in states.items():
        bare.live(name).record.state = state
    running = bare.live("bb").record
    running.config.exposed_ports = {"80/tcp": {}, "443/tcp": {}}
    running.ports = {"80/tcp": [PortBinding("0.0.0.0", "8080")]}
    running.mounts = [MountPoint("volume", "/data", "/v", "data", "local")]
    running.networks["shop"] = EndpointSettings(network_id="ab" * 32)
    assert bare.live("cc").record.image_id == other
    return bare


def as_sent(found: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(found))


async def listed(engine: BareEngine, show_all: bool = True, limit: int | None = None, **filters: Iterable[str]) -> str:
    """The first letters of the names."""
    named = {name.replace("_", "-"): list(values) for name, values in filters.items()}
    found = await engine.engine.views.list_all(show_all=show_all, limit=limit, filters=named)
    return "".join(each["Names"][0][1] for each in found)


async def test_the_youngest_first_and_only_what_runs(fleet: BareEngine) -> None:
    assert await listed(fleet) == "edcba"
    assert await listed(fleet, show_all=False) == "edb"
    assert await listed(fleet, show_all=False, limit=3) == "edc"
    assert await listed(fleet, show_all=False, status=["exited"]) == "c"


FILTERED: list[tuple[dict[str, list[str]], str]] = [
    ({"name": ["^/aa$", "b"]}, "ba"),
    ({"name": ["["]}, ""),
    ({"label": ["all", "n=cc"]}, "c"),
    ({"label": ["all"]}, "edcba"),
    ({"status": ["created", "paused"]}, "da"),
    ({"exited": ["3"]}, "c"),
    ({"before": ["cc"]}, "ba"),
    ({"since": ["cc"]}, "ed"),
    ({"ancestor": ["other:2"]}, "c"),
    ({"ancestor": ["nothing"]}, ""),
    ({"network": ["shop"]}, "b"),
    ({"network": ["ab" * 32]}, "b"),
    ({"publish": ["8080"]}, "b"),
    ({"publish": ["8079-8081/tcp"]}, "b"),
    ({"publish": ["8080/udp"]}, ""),
    ({"expose": ["443"]}, "b"),
    ({"volume": ["data"]}, "b"),
    ({"volume": ["/data"]}, "b"),
    ({"health": ["healthy"]}, "b"),
    ({"health": ["none"]}, "edca"),
    ({"is_task": ["false"]}, "edcba"),
    ({"is_task": ["true"]}, ""),
    ({"isolation": ["default"]}, "edcba"),
    ({"name": []}, "edcba"),
    ({"name": ["aa", "cc"], "status": ["exited"]}, "c"),
]


async def test_filters(fleet: BareEngine) -> None:
    for filters, expected in FILTERED:
        assert await listed(fleet, **filters) == expected, filters


async def test_the_filter_by_id(fleet: BareEngine) -> None:
    assert await listed(fleet, id=[fleet.live("dd").record.id[:20]]) == "d"


REFUSED: list[tuple[dict[str, list[str]], type[Exception], str]] = [
    ({"colour": ["red"]}, InvalidParameter, "invalid filter 'colour'"),
    ({"status": ["happy"]}, InvalidParameter, "invalid filter 'status=happy'"),
    ({"exited": ["x"]}, InvalidParameter, 'exited=x.: strconv.Atoi: parsing "x": invalid syntax'),
    ({"publish": ["http"]}, InvalidParameter, "error while looking up for publish http: strconv.ParseUint"),
    ({"health": ["well"]}, InvalidParameter, "unrecognized filter value for health: well"),
    ({"before": ["gone"]}, NotFound, "No such container: gone"),
]


async def test_bad_filters(bare: BareEngine) -> None:
    for filters, error, message in REFUSED:
        with pytest.raises(error, match=message):
            await listed(bare, **filters)


async def test_the_status_column(fleet: BareEngine) -> None:
    texts = {name: status_text(fleet.live(name).record) for name in NAMES}
    assert texts == {
        "aa": "Created",
        "bb": "Up 5 seconds (healthy)",
        "cc": "Exited (3) 2 minutes ago",
        "dd": "Up 1 second (Paused)",
        "ee": "Restarting (1) Less than a second ago",
    }
    record = fleet.live("aa").record
    for status, text in ((Status.REMOVING, "Removal In Progress"), (Status.DEAD, "Dead")):
        record.state.status = status
        assert status_text(record) == text
    record.state = State(Status.RUNNING, started_at=times.now(), health=Health())
    assert status_text(record) == "Up Less than a second (health: starting)"


async def test_a_container_in_the_list(fleet: BareEngine, api_definition: ApiDefinition) -> None:
    found = await fleet.engine.views.list_all(show_all=True, limit=None, filters={})
    await fleet.engine.views.add_sizes(found)
    api_definition.check("GET", "/containers/json", 200, as_sent(found))
    shown: dict[str, Any] = next(each for each in found if each["Names"] == ["/bb"])
    assert shown["Ports"] == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "Type": "tcp", "PublicPort": 8080},
        {"PrivatePort": 443, "Type": "tcp"},
    ]
    assert (shown["Image"], shown["Command"], shown["State"]) == ("app", "serve", "running")
    assert shown["SizeRw"] == 0 and shown["SizeRootFs"] == 10
    fleet.engine.images.tag("other:2", "app")
    assert (await fleet.engine.views.list_all(show_all=True, limit=None, filters={"name": ["^/aa$"]}))[0][
        "Image"
    ] == fleet.live("aa").record.image_id, "the name means another image now"


async def test_who_inspects_one_that_is_being_started_waits(bare: BareEngine) -> None:
    """Docker does, and the kubelet's cAdvisor asks once: "created" would be its last word."""
    await bare.create("web", JSON)
    async with bare.live("web").lock:
        looking = asyncio.create_task(bare.engine.views.inspect("web"))
        await asyncio.sleep(0.01)
        assert not looking.done()
        bare.live("web").record.state.status = Status.RUNNING
    assert (await looking)["State"]["Status"] == "running"
    bare.live("web").record.state.status = Status.CREATED


async def test_one_that_has_ended_is_never_shown_as_running(bare: BareEngine) -> None:
    """Its monitor clears up before it tells of the end. Who sees the end otherwise, by its output, may ask first."""
    for name, look in (("one", bare.engine.views.inspect("one")), ("two", listed(bare, show_all=False))):
        started = await bare.run(name)
        os.kill(started.pid, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd := os.pidfd_open(started.pid), select.POLLIN)
        assert poll.poll(5000)
        os.close(pidfd)
        assert bare.live(name).record.state.running
        await look
        assert bare.live(name).record.state.exit_code == 137


async def test_inspect(fleet: BareEngine, api_definition: ApiDefinition) -> None:
    for name in ("aa", "cc", "dd", "ee"):  # the definition does not know that an exposed port may be null
        shown = adapt_container(CURRENT, await fleet.engine.views.inspect(name, size=True))
        api_definition.check("GET", "/containers/{id}/json", 200, as_sent(shown))
    found = await fleet.engine.views.inspect("bb")
    assert found["NetworkSettings"]["Ports"] == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": None}
    assert (found["State"]["Running"], found["Name"], found["LogPath"][-9:]) == (True, "/bb", "-json.log")
    assert (await fleet.engine.views.inspect("cc"))["NetworkSettings"]["Ports"] == {}
    assert (await fleet.engine.views.inspect("ee"))["State"]["Running"], "as in Docker: it is on its way"
    assert "SizeRw" not in found and (await fleet.engine.views.inspect("bb", size=True))["SizeRootFs"] == 10


async def test_what_differs_from_the_image(bare: BareEngine) -> None:
    record = await bare.create("web")
    assert bare.engine.views.changes("web") is None
    os.mknod(f"{bare.config.data_root}/containers/{record.id}/diff/new")
    assert bare.engine.views.changes("web") == [{"Path": "/new", "Kind": 1}]


async def test_the_root_of_one_that_is_being_started_cannot_be_had(bare: BareEngine) -> None:
    await bare.create("web")
    entry = bare.live("web")
    async with entry.lock:
        with pytest.raises(Conflict, match="is being started or removed"):
            bare.engine.views.root(entry)
    assert bare.engine.views.root(entry)[0].type == "overlay"


# --- logs


JSON = HostConfig(network_mode="none", log_config=LogConfig("json-file"))


def write(path: str, *lines: str) -> None:
    with open(path, "a", encoding="ascii") as file:
        for line in lines:
            entry = {"log": f"{line}\n", "stream": "stdout", "time": times.rfc3339(times.now())}
            file.write(json.dumps(entry) + "\n")


async def test_the_log_of_one_that_has_ended(bare: BareEngine) -> None:
    record = await bare.create("web", JSON)
    write(record.log_path, "one", "two")
    assert record.log_path.endswith(f"{record.id}-json.log") == bool(
        (await bare.engine.views.inspect("web"))["LogPath"]
    )
    chunks = b"".join([chunk async for chunk in bare.engine.views.logs("web", LogQuery())])
    assert chunks == b"\x01\0\0\0\0\0\0\x04one\n\x01\0\0\0\0\0\0\x04two\n"
    last = [chunk async for chunk in bare.engine.views.logs("web", LogQuery(tail=1))]
    assert b"".join(last)[8:] == b"two\n"


async def test_a_log_is_followed_to_the_container_s_end(bare: BareEngine) -> None:
    started = await bare.run("web", JSON, tty=True)
    path = bare.live("web").record.log_path
    write(path, "one")
    found = bare.engine.views.logs("web", LogQuery(), follow=True)
    assert await asyncio.wait_for(anext(found), 5) == b"one\n"
    write(path, "two")
    assert await asyncio.wait_for(anext(found), 5) == b"two\n"
    write(path, "three")
    started.exit(0)
    assert b"".join([chunk async for chunk in found]) == b"three\n"


async def test_a_log_is_followed_until_the_time_that_is_said(bare: BareEngine) -> None:
    await bare.run("web", JSON)
    async with asyncio.timeout(5):
        found = bare.engine.views.logs("web", LogQuery(until=time.time_ns() + 10**7), follow=True)
        assert [chunk async for chunk in found] == []


async def test_a_log_that_is_not_kept(bare: BareEngine) -> None:
    await bare.create("web", HostConfig(network_mode="none", log_config=LogConfig("none")))
    with pytest.raises(NotSupported, match="does not support reading"):
        bare.engine.views.logs("web", LogQuery())


# --- stats and top


async def test_what_a_container_that_does_not_run_uses(bare: BareEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "_PERIOD", 0.01)
    await bare.create("web")
    for options in ({"stream": False, "one_shot": True}, {"stream": False, "one_shot": False}):
        (sample,) = [each async for each in bare.engine.views.stats("web", **options)]
        assert (sample["name"], sample["read"], sample["memory_stats"]) == ("/web", times.NEVER, {})
    samples = bare.engine.views.stats("web", stream=True, one_shot=False)
    first, second = await anext(samples), await anext(samples)
    assert second["precpu_stats"] == first["cpu_stats"]
    await samples.aclose()
    with pytest.raises(NotFound):
        bare.engine.views.stats("gone", stream=False, one_shot=True)


def test_figures_in_the_shape_of_the_api() -> None:
    found = stats._cpu(CpuStats(total=9, user=5, system=4, per_cpu=(4, 5), periods=1), 100, 2)
    assert found["cpu_usage"] == {
        "total_usage": 9,
        "usage_in_kernelmode": 4,
        "usage_in_usermode": 5,
        "percpu_usage": [4, 5],
    }
    assert (found["system_cpu_usage"], found["online_cpus"], found["throttling_data"]["periods"]) == (100, 2, 1)
    memory = stats._memory(MemoryStats(usage=5, limit=10, peak=7, failures=2))
    assert (memory["usage"], memory["limit"], memory["max_usage"], memory["failcnt"]) == (5, 10, 7, 2)
    assert stats._memory(MemoryStats())["limit"] == stats._machine_memory() > 1 << 20
    blkio = stats._blkio(BlkioStats(service_bytes=(BlkioEntry(8, 0, "Read", 512),)))
    assert blkio["io_service_bytes_recursive"] == [{"major": 8, "minor": 0, "op": "Read", "value": 512}]
    assert blkio["io_serviced_recursive"] is None


def test_interfaces_but_the_loopback() -> None:
    found = stats._networks(os.getpid())
    assert "lo" not in found
    assert all(set(each) == {name for name in stats._NETWORK_FIELDS if name} for each in found.values())
    assert stats._networks(0) == {}


@pytest.mark.skipif(shutil.which("ps") is None, reason="no ps")
async def test_top_shows_only_the_container_s_processes() -> None:
    found = await stats.top([os.getpid()], "")
    column = found["Titles"].index("PID")
    assert [each[column] for each in found["Processes"]] == [str(os.getpid())]
    with pytest.raises(InvalidParameter, match="may not rename the PID column"):
        await stats.top([1], "-opid=x")
    with pytest.raises(EngineError, match=r"^ps: "):
        await stats.top([1], "--no-such-option")


async def test_top_of_one_that_does_not_run(bare: BareEngine) -> None:
    await bare.create("web")
    with pytest.raises(Conflict, match="is not running"):
        await bare.engine.views.top("web", "")
