"""Containers from their creation to their removal, by what their monitors say."""

import asyncio
import errno
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.bare_engine import BareEngine, frame
from tests.support.laid_images import lay_image
from tests.support.waiting import until
from wherry.common.errors import Conflict, EngineError, InvalidParameter, NotFound, NotModified
from wherry.engine.container import lifecycle
from wherry.engine.container.update import Update
from wherry.linux.cgroups import Cgroup, CgroupError
from wherry.model.container import (
    ContainerConfig,
    ExecConfig,
    HostConfig,
    LogConfig,
    MountRequest,
    RestartPolicy,
    Status,
)
from wherry.model.network import EndpointSettings, NetworkingConfig
from wherry.runtime.ipc import Exited, OutOfMemory, Resize, encode
from wherry.runtime.monitor_client import StartError

ALONE = HostConfig(network_mode="none")


async def test_a_container_has_what_the_image_says(bare: BareEngine) -> None:
    bare.image("b", tag="full", entrypoint=["/entry"], env=["A=1"], user="app", labels={"a": "b"})
    record = await bare.create("web", image="full", cmd=["x"])
    assert (record.path, record.args, record.config.user) == ("/entry", ["x"], "app")
    assert record.config.hostname == record.id[:12]
    assert record.state.status is Status.CREATED
    assert bare.live(record.id[:5]) is bare.live("web") is bare.live("/web")
    assert os.listdir(f"{bare.config.data_root}/containers/{record.id}")


@pytest.mark.parametrize(
    ("host", "config", "message"),
    [
        (HostConfig(network_mode="none"), {"cmd": [], "entrypoint": [""]}, "no command specified"),
        (HostConfig(network_mode="none"), {"working_dir": "srv"}, "needs to be an absolute path"),
        (HostConfig(network_mode="none"), {"env": ["=x"]}, "invalid environment variable: =x"),
        (HostConfig(network_mode="container:"), {}, "invalid container format"),
        (HostConfig(network_mode="none", sysctls={"kernel.panic": "1"}), {}, "is not in a separate kernel namespace"),
        (HostConfig(network_mode="none", cap_add=["FLY"]), {}, "invalid CapAdd"),
        (HostConfig(network_mode="none", binds=["x:y"]), {}, "invalid mount path: 'y'"),
        (HostConfig(network_mode="none", pid_mode="container:gone"), {}, "No such container: gone"),
        (HostConfig(network_mode="none", volumes_from=["gone"]), {}, "No such container: gone"),
        (HostConfig(network_mode="none", device_cgroup_rules=["c 1"]), {}, "invalid device cgroup rule format: 'c 1'"),
        (HostConfig(network_mode="none", log_config=LogConfig("pigeon")), {}, "error looking up logging plugin"),
        (HostConfig(network_mode="none", mounts=[MountRequest("image", "gone", "/x")]), {}, "No such image: gone"),
    ],
)
async def test_of_one_that_cannot_be_made_nothing_stays(
    bare: BareEngine, host: HostConfig, config: dict[str, object], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        await bare.create("web", host, **config)
    assert _names(bare) == set()
    assert os.listdir(f"{bare.config.data_root}/containers") == []
    assert (await bare.engine.volumes.list_all({}))[0] == []
    await bare.create("web")


async def test_the_image_must_be_there_and_for_the_platform(bare: BareEngine) -> None:
    with pytest.raises(NotFound, match="No such image: gone"):
        await bare.create(image="gone")
    with pytest.raises(NotFound, match="does not match the specified platform: wanted linux/s390x"):
        await bare.engine.containers.create(ContainerConfig(image="app"), ALONE, NetworkingConfig(), None, "s390x")


async def test_a_name_is_one_container_s(bare: BareEngine) -> None:
    first = await bare.create("web")
    with pytest.raises(Conflict, match=f'The container name "/web" is already in use by container "{first.id}"'):
        await bare.create("web")
    other = await bare.create()
    assert "_" in other.name
    with pytest.raises(Conflict, match="Error when allocating new name"):
        bare.engine.containers.rename(other.name, "web")
    with pytest.raises(InvalidParameter, match="same name as its current name"):
        bare.engine.containers.rename("web", "/web")
    with pytest.raises(InvalidParameter, match="may be empty"):
        bare.engine.containers.rename("web", "")
    bare.engine.containers.rename("web", "shop")
    assert bare.live("shop").record is first
    with pytest.raises(NotFound, match="No such container: web"):
        bare.live("web")
    await bare.create("web")


async def test_what_the_user_is_warned_of(bare: BareEngine) -> None:
    host = HostConfig(network_mode="host", oom_kill_disable=True, publish_all_ports=True)
    _, warnings = await bare.engine.containers.create(ContainerConfig(image="app"), host, NetworkingConfig())
    assert [warning.partition(" ")[0] for warning in warnings] == ["Published", "OOM"]
    other = "riscv64" if os.uname().machine != "riscv64" else "amd64"
    lay_image(bare.store, "a", tag="foreign", architecture=other, config=ContainerConfig(cmd=["x"]))
    _, warnings = await bare.engine.containers.create(ContainerConfig(image="foreign"), ALONE, NetworkingConfig())
    assert f"The requested image's platform (linux/{other}) does not match" in warnings[0]


async def test_it_starts_and_ends_by_itself(bare: BareEngine) -> None:
    started = await bare.run("web")
    record = bare.live("web").record
    assert (record.state.status, record.state.pid) == (Status.RUNNING, started.pid)
    assert record.state.started_at and started.spec.id == record.id
    with pytest.raises(NotModified, match="container already started"):
        await bare.engine.containers.start("web")
    waiting = bare.engine.containers.waiter("web")
    started.exit(3)
    assert await asyncio.wait_for(waiting, 5) == (3, "")
    assert (record.state.status, record.state.exit_code, record.state.pid) == (Status.EXITED, 3, 0)
    assert record.state.finished_at >= record.state.started_at
    assert await bare.engine.containers.waiter("web") == (3, "")
    with pytest.raises(NotModified, match="container already stopped"):
        await bare.engine.containers.stop("web")
    assert await bare.events(type=["container"]) == ["container create", "container start", "container die"]


async def test_out_of_memory_is_told_once(bare: BareEngine) -> None:
    started = await bare.run("web")
    started.tell(OutOfMemory())
    started.exit(137, oom=True)
    assert (await bare.ended("web")).state.oom_killed
    assert (await bare.events(type=["container"])).count("container oom") == 1
    (await bare.start("web")).exit(137, oom=True)
    await bare.ended("web")
    assert (await bare.events(type=["container"])).count("container oom") == 2


async def test_stop_asks_first_and_ends_it_when_it_does_not(bare: BareEngine) -> None:
    await bare.run("polite", stop_signal="SIGINT")
    await bare.engine.containers.stop("polite")
    assert bare.live("polite").record.state.exit_code == 128 + signal.SIGINT
    bare.launcher.ignored = (signal.SIGTERM,)
    await bare.run("stubborn", stop_timeout=0)
    await bare.engine.containers.stop("stubborn")
    assert bare.live("stubborn").record.state.exit_code == 137
    told = [each.split()[1] for each in await bare.events(event=["kill", "stop"])]
    assert told == ["kill", "stop", "kill", "kill", "stop"]


async def test_kill_and_signals(bare: BareEngine) -> None:
    await bare.run("web")
    with pytest.raises(InvalidParameter, match="invalid signal: SIGNONE"):
        await bare.engine.containers.kill("web", "SIGNONE")
    await bare.engine.containers.kill("web", "USR1")
    assert (await bare.ended("web")).state.exit_code == 128 + signal.SIGUSR1
    with pytest.raises(Conflict, match=r"cannot kill container: web: container .* is not running"):
        await bare.engine.containers.kill("web")
    with pytest.raises(NotFound, match="cannot kill container: gone: No such container: gone"):
        await bare.engine.containers.kill("gone")
    await bare.start("web")
    await bare.engine.containers.kill("web")
    assert (await bare.ended("web")).state.exit_code == 137


async def test_a_client_that_detaches_waits_no_longer(bare: BareEngine) -> None:
    """Docker's CLI waits on another connection than that which it is attached by. Others go on waiting."""
    started = await bare.run("web")
    waiter, detached = bare.engine.containers.waiter, bare.engine.containers.detached
    own, removal = waiter("web", "next-exit", 11), waiter("web", "removed", 11)
    other, nobodys = waiter("web", "", 12), waiter("web")
    detached("web")
    detached("web", 13)
    assert not any(each.done() for each in (own, removal, other, nobodys))
    detached("web", 11)
    assert await own == await removal == (0, "")
    started.exit(3)
    assert await other == await nobodys == (3, "")


async def test_restart(bare: BareEngine) -> None:
    first = await bare.run("web", HostConfig(network_mode="none", auto_remove=True))
    await bare.engine.containers.restart("web", timeout=5)
    record = bare.live("web").record
    assert record.state.status is Status.RUNNING and record.state.pid != first.pid
    await bare.engine.containers.stop("web")
    await until(lambda: "web" not in _names(bare))


async def test_remove(bare: BareEngine) -> None:
    record = (await bare.run("web")).spec
    with pytest.raises(Conflict, match="container is running: stop the container before removing or force remove"):
        await bare.engine.containers.remove("web")
    gone = bare.engine.containers.waiter("web", "removed")
    await bare.engine.containers.remove("web", force=True)
    assert (await gone)[0] == 137
    assert _names(bare) == set()
    assert record.id not in os.listdir(f"{bare.config.data_root}/containers")
    assert record.id not in os.listdir(bare.config.exec_root)
    await bare.create("web")
    bare.live("web").record.state.status = Status.REMOVING
    with pytest.raises(Conflict, match="removal of container web is already in progress"):
        await bare.engine.containers.remove("web")


async def test_a_start_that_fails(bare: BareEngine) -> None:
    record = await bare.create("web")
    bare.launcher.failures = [
        StartError('exec: "serve": executable file not found in $PATH', 127),
        StartError("unable to find user app: no matching entries in passwd file", 125),
        EngineError("no room"),
        OSError(28, "No space left on device"),
    ]
    with pytest.raises(InvalidParameter, match=r"^failed to create task for container: exec: "):
        await bare.engine.containers.start("web")
    assert (record.state.exit_code, record.state.status) == (127, Status.CREATED)
    assert "not found" in record.state.error
    with pytest.raises(EngineError, match="unable to find user app"):
        await bare.engine.containers.start("web")
    with pytest.raises(EngineError, match="no room"):
        await bare.engine.containers.start("web")
    assert record.state.exit_code == 128
    with pytest.raises(OSError, match="No space left"):
        await bare.engine.containers.start("web")
    await bare.start("web")
    assert record.state.error == "" and record.state.status is Status.RUNNING


async def test_of_a_failed_start_with_rm_nothing_stays(bare: BareEngine) -> None:
    await bare.create("web", HostConfig(network_mode="none", auto_remove=True))
    bare.launcher.failures = [StartError("no", 126)]
    attached = await bare.engine.containers.attach("web", stdin=False, stdout=True, stderr=True)
    with pytest.raises(InvalidParameter):
        await bare.engine.containers.start("web")
    assert _names(bare) == set()
    assert await asyncio.get_running_loop().sock_recv(attached, 1) == b""
    attached.close()


async def test_who_attaches_before_the_start_misses_nothing(bare: BareEngine) -> None:
    await bare.create("web", open_stdin=True)
    left = await bare.engine.containers.attach("web", stdin=False, stdout=True, stderr=True)
    left.close()
    stream = await bare.engine.containers.attach("web", stdin=True, stdout=True, stderr=False)
    started = await bare.start("web")
    assert len(started.streams) == 1, "the other has gone"
    started.streams[0].send(frame(b"first words\n"))
    loop = asyncio.get_running_loop()
    assert (await loop.sock_recv(stream, 100))[8:] == b"first words\n"
    await loop.sock_sendall(stream, b"typed")
    assert started.streams[0].recv(100) == b"typed"
    started.exit(0)
    assert await loop.sock_recv(stream, 100) == b""
    stream.close()


async def test_attaching_to_what_does_not_stand_still(bare: BareEngine) -> None:
    await bare.run("web")
    (await bare.engine.containers.attach("web", stdin=True, stdout=True, stderr=True)).close()
    await bare.engine.containers.resize("web", 24, 80)
    assert any(isinstance(each, Resize) for each in bare.launcher.started[0].requests)
    state = bare.live("web").record.state
    for status, message in ((Status.PAUSED, "unpause the container"), (Status.RESTARTING, "is restarting, wait")):
        state.status = status
        with pytest.raises(Conflict, match=message):
            await bare.engine.containers.attach("web", stdin=False, stdout=True, stderr=True)
    with pytest.raises(Conflict, match="is restarting"):
        await bare.engine.containers.resize("web", 24, 80)
    state.status = Status.PAUSED
    with pytest.raises(Conflict, match="cannot start a paused container"):
        await bare.engine.containers.start("web")
    with pytest.raises(Conflict, match="is already paused"):
        await bare.engine.containers.pause("web")
    state.status = Status.RUNNING
    with pytest.raises(EngineError, match="is not paused"):
        await bare.engine.containers.unpause("web")


@pytest.mark.parametrize("question", ["attach", "resize", "exec", "resize of exec"])
async def test_a_container_that_ends_while_it_is_asked(bare: BareEngine, question: str) -> None:
    await bare.run("web")
    engine = bare.engine
    bare.launcher.answer = lambda started, request, process: started.exec_started(request)
    exec_id = engine.execs.create("web", ExecConfig(cmd=["sleep", "600"]))
    if question == "resize of exec":
        await engine.execs.start(exec_id, tty=True, detach=True)
    bare.launcher.started[0].dying = True
    with pytest.raises(Conflict, match="is not running"):
        if question == "attach":
            await engine.containers.attach("web", stdin=False, stdout=True, stderr=True)
        elif question == "resize":
            await engine.containers.resize("web", 24, 80)
        elif question == "exec":
            await engine.execs.start(exec_id, tty=False, detach=False)
        else:
            await engine.execs.resize(exec_id, 24, 80)
    await until(lambda: not bare.live("web").record.state.running)


async def test_waiting_for_what_there_is_not(bare: BareEngine) -> None:
    await bare.create("web")
    with pytest.raises(InvalidParameter, match='invalid condition: "tea"'):
        bare.engine.containers.waiter("web", "tea")
    future = bare.engine.containers.waiter("web", "next-exit")
    assert not future.done()
    (await bare.start("web")).exit(4)
    assert await future == (4, "")


async def test_the_restart_policy(bare: BareEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_SHORTEST", 0.01)
    started = await bare.run("web", HostConfig(network_mode="none", restart_policy=RestartPolicy("on-failure", 2)))
    started.exit(1)
    await until(lambda: len(bare.launcher.started) == 2)
    record = bare.live("web").record
    await until(lambda: record.state.status is Status.RUNNING)
    assert record.restart_count == 1
    bare.launcher.failures = [StartError("not now", 125)]
    bare.launcher.started[1].exit(1)
    await until(lambda: record.state.error == "not now")
    assert record.state.status is Status.EXITED and record.restart_count == 2


async def test_a_restart_that_is_being_waited_for_can_be_stopped(
    bare: BareEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "_SHORTEST", 60)
    started = await bare.run("web", HostConfig(network_mode="none", restart_policy=RestartPolicy("always")))
    started.exit(0)
    record = bare.live("web").record
    await until(lambda: record.state.status is Status.RESTARTING)
    await bare.engine.containers.stop("web")
    assert record.state.status is Status.EXITED and record.user_stopped
    (await bare.start("web")).exit(0)
    await until(lambda: record.state.status is Status.RESTARTING)
    with pytest.raises(Conflict, match="container is restarting"):
        await bare.engine.containers.remove("web")
    await bare.engine.containers.remove("web", force=True)


async def test_an_update_that_meets_the_end_is_for_the_next_run(
    bare: BareEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Cgroups go one hierarchy after the other."""
    await bare.run("web")
    (tmp_path / "left").mkdir()

    def gone(cgroup: Cgroup, resources: object) -> None:
        raise CgroupError(errno.ENOENT, "write", f"{tmp_path}/{place}/cpu.shares")

    monkeypatch.setattr(Cgroup, "update", gone)
    monkeypatch.setattr(Cgroup, "exists", lambda cgroup: True)
    place = "gone"
    await bare.engine.updates.update("web", Update(cpu_shares=7))
    assert bare.live("web").record.host_config.cpu_shares == 7
    place = "left"
    with pytest.raises(EngineError, match=r"cpu\.shares: No such file"):
        await bare.engine.updates.update("web", Update(cpu_shares=8))


async def test_one_that_is_to_be_removed_at_its_end_and_is_started_again_before_is_kept(bare: BareEngine) -> None:
    first = await bare.run("web", HostConfig(network_mode="none", auto_remove=True))
    entry = bare.live("web")
    async with entry.lock:
        first.exit(0)
        await bare.ended("web")
        await bare.engine._lifecycle.start(entry)
    async with entry.lock:  # behind the removal
        assert entry.monitor is not None and bare.live("web") is entry
    bare.launcher.started[-1].exit(0)
    await until(lambda: not list(bare.engine.entries))


async def test_update(bare: BareEngine) -> None:
    await bare.create("web", HostConfig(network_mode="none", memory=64 << 20))
    update = bare.engine.updates.update
    await update("web", Update(memory=32 << 20, cpu_shares=7, restart_policy=RestartPolicy("always")))
    host = bare.live("web").record.host_config
    assert (host.memory, host.memory_swap, host.cpu_shares) == (32 << 20, 128 << 20, 7)
    assert host.restart_policy.name == "always"
    for asked, message in (
        (Update(memory=1), "Minimum memory limit"),
        (Update(restart_policy=RestartPolicy("never")), "unknown policy 'never'"),
    ):
        with pytest.raises(InvalidParameter, match=message):
            await update("web", asked)
    with pytest.raises(Conflict, match="Memory limit should be smaller than already set memoryswap limit"):
        await update("web", Update(memory=256 << 20))
    await update("web", Update(nano_cpus=10**9))
    with pytest.raises(Conflict, match="CPU Quota cannot be updated as NanoCPUs has already been set"):
        await update("web", Update(cpu_quota=5000))
    await bare.create("once", HostConfig(network_mode="none", auto_remove=True))
    with pytest.raises(Conflict, match="because AutoRemove is enabled"):
        await update("once", Update(restart_policy=RestartPolicy("always")))
    bare.live("once").record.state.status = Status.DEAD
    with pytest.raises(Conflict, match="marked for removal"):
        await update("once", Update(cpu_shares=3))


async def test_a_container_joins_the_namespaces_of_one_that_runs(bare: BareEngine) -> None:
    donor = await bare.run("donor", HostConfig(network_mode="none", ipc_mode="shareable"))
    joined = HostConfig(network_mode="container:donor", ipc_mode="container:donor", pid_mode="container:donor")
    started = await bare.run("guest", joined)
    assert {each.kind: each.pid for each in started.spec.namespaces if each.pid} == dict.fromkeys(
        ("pid", "net", "ipc"), donor.pid
    )
    sources = [mount.source for mount in started.spec.mounts if mount.target == "/etc/hosts"]
    assert sources == [f"{bare.config.data_root}/containers/{donor.spec.id}/hosts"]
    await bare.run("private")
    await bare.create("rude", HostConfig(network_mode="none", ipc_mode="container:private"))
    with pytest.raises(InvalidParameter, match="non-shareable IPC"):
        await bare.engine.containers.start("rude")
    donor.exit(0)
    await bare.ended("donor")
    await bare.create("late", HostConfig(network_mode="none", pid_mode="container:donor"))
    with pytest.raises(Conflict, match="cannot join the namespace of a non running container: donor"):
        await bare.engine.containers.start("late")


async def test_a_container_has_the_name_of_whose_network_it_shares(bare: BareEngine) -> None:
    donor = await bare.create("donor", HostConfig(network_mode="none"), hostname="of-donor", domainname="dom")
    await bare.engine.containers.start("donor")
    await bare.run("guest", HostConfig(network_mode="container:donor"))
    started = await bare.run("third", HostConfig(network_mode="container:guest"))
    assert (started.spec.hostname, started.spec.domainname) == ("of-donor", "dom")
    assert "HOSTNAME=of-donor" in started.spec.process.env
    assert bare.engine.containers.files_directory(bare.live("third").record).endswith(donor.id)
    assert bare.live("third").record.config.hostname == "of-donor"


# --- an engine after another


async def test_the_next_engine_knows_them_all(bare: BareEngine) -> None:
    (await bare.run("ended")).exit(7)
    await bare.ended("ended")
    await bare.create("made")
    running, told = await bare.run("lost"), await bare.run("told")
    bare.live("lost").record.restart_count = 1
    bare.engine.containers._entries.save(bare.live("lost"))
    await bare.close()
    _write_exit(told.spec.exec_dir, Exited(5, time.time_ns()))
    bare.open()
    await bare.engine._recovery.run()
    states = {name: bare.live(name).record.state for name in ("ended", "made", "lost", "told")}
    assert {name: state.exit_code for name, state in states.items()} == {"ended": 7, "made": 0, "lost": 255, "told": 5}
    assert {state.status for name, state in states.items() if name != "made"} == {Status.EXITED}
    assert "monitor" in states["lost"].error and running.spec.id == bare.live("lost").record.id


async def test_what_the_policy_wants_at_boot(bare: BareEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("always", "unless-stopped", "on-failure", "no"):
        await bare.run(name, HostConfig(network_mode="none", restart_policy=RestartPolicy(name)))
    for name in ("always", "unless-stopped"):
        await bare.engine.containers.stop(name)
    await bare.run("gone", HostConfig(network_mode="none", auto_remove=True))
    await bare.reopen()
    await until(lambda: len(bare.launcher.started) == 2)
    assert {_name_of(bare, each.spec.id) for each in bare.launcher.started} == {"always", "on-failure"}
    await until(lambda: "gone" not in _names(bare))


def _write_exit(exec_dir: str, exited: Exited) -> None:
    """As a monitor does when no engine listens."""
    Path(exec_dir, "exit").write_bytes(encode(exited))


def _names(bare: BareEngine) -> set[str]:
    return {entry.record.name for entry in bare.engine.entries}


def _name_of(bare: BareEngine, container_id: str) -> str:
    return bare.live(container_id).record.name


async def test_an_image_s_platform_is_kept_with_the_container(bare: BareEngine) -> None:
    record = await bare.create("web", endpoints={"none": EndpointSettings()})
    assert record.architecture and list(record.networks) == ["none"]
