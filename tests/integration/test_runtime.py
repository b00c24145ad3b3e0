"""The runtime without an engine: real containers from a busybox root."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from pathlib import Path

import msgspec
import pytest

from tests.support.bundles import KERNEL_MOUNTS, Bundles, read_all, read_until, run, split, start_attached
from wherry.linux.cgroups import DEFAULT_DEVICE_RULES, Hierarchies, Resources
from wherry.linux.mounts import Mount
from wherry.runtime import ipc
from wherry.runtime.launcher_client import Launcher
from wherry.runtime.logging.reader import Reader
from wherry.runtime.monitor_client import MONITOR_DIED, Exit, Monitor, MonitorGone, StartError, connect
from wherry.runtime.spec import Log, Namespace, Rlimit

NODES = ("null", "zero", "full", "random", "urandom", "tty")
HOST_LINKS = ("core",) if os.path.exists("/proc/kcore") else ()
STREAM_LINKS = ("fd", "stdin", "stdout", "stderr")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")


def contents(path: str) -> str:
    with open(path) as file:
        return file.read()


def _first_child(pid: int) -> int:
    """Waits for it."""
    while not (children := contents(f"/proc/{pid}/task/{pid}/children").split()):
        time.sleep(0.01)
    return int(children[0])


def log_of(spec_log: Log) -> str:
    data = b"".join(Reader(spec_log).read())
    return b"".join(split(data)).decode()


async def until_gone(pid: int) -> None:
    """Waits for the end of a process that is not ours, by its pidfd."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, ended.set)
    await ended.wait()
    loop.remove_reader(pidfd)
    os.close(pidfd)


class TestEnds:
    @pytest.mark.parametrize("code", [0, 1, 3, 125, 127, 255])
    async def test_exit_codes(self, launcher: Launcher, bundles: Bundles, code: int) -> None:
        spec = bundles.spec("sh", "-c", f"echo out; echo err >&2; exit {code}")
        output = await run(launcher, spec)
        assert (output.code, output.stdout, output.stderr) == (code, "out\n", "err\n")
        assert output.exit.signal is None
        record = msgspec.json.decode(contents(f"{spec.exec_dir}/exit"))
        assert (record["code"], record["signal"], record["oom"], record["error"]) == (code, None, False, None)
        assert record["at"] == output.exit.at
        assert os.listdir(spec.exec_dir) == ["exit"]

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
    async def test_signals(self, launcher: Launcher, bundles: Bundles, number: signal.Signals) -> None:
        # The shell waits for its child and ends likewise; PID 1 itself takes only signals that it has a handler for.
        monitor = await launcher.start(bundles.spec("sleep", "1000", init=True))
        monitor.signal(number)
        if number == signal.SIGSEGV:
            monitor.kill()
        ended = await monitor.exited
        assert ended.code == 128 + (9 if number == signal.SIGSEGV else number)

    async def test_pid_1_is_killed_from_outside(self, launcher: Launcher, bundles: Bundles) -> None:
        monitor = await launcher.start(bundles.spec("sleep", "1000"))
        monitor.kill()
        ended = await monitor.exited
        assert (ended.code, ended.signal, ended.error) == (137, 9, "")

    async def test_it_takes_all_others_with_it(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sh", "-c", "sleep 1000 & echo started; cat", stdin=True, stdin_once=True)
        assert (await run(launcher, spec, b"")).stdout == "started\n"
        assert not Hierarchies.detect().open(spec.cgroup).exists()

    async def test_out_of_memory(self, launcher: Launcher, bundles: Bundles) -> None:
        resources = Resources(memory=16 << 20, devices=DEFAULT_DEVICE_RULES)
        greedy = "x=x; while true; do x=$x$x$x$x; done"
        output = await run(launcher, bundles.spec("sh", "-c", greedy, resources=resources))
        assert (output.code, output.exit.oom) == (137, True)


class TestStartErrors:
    @pytest.mark.parametrize(
        ("args", "message", "code"),
        [
            (("nope",), 'exec: "nope": executable file not found in $PATH', 127),
            (("/nope",), 'exec: "/nope": stat /nope: no such file or directory', 127),
            (("/etc/passwd",), 'exec: "/etc/passwd": permission denied', 126),
            (("/etc",), 'exec: "/etc": is a directory', 126),
            (("/script",), "exec /script: no such file or directory", 127),
            (("/text",), "exec /text: exec format error", 126),
        ],
    )
    async def test_programs(
        self, launcher: Launcher, bundles: Bundles, args: tuple[str, ...], message: str, code: int
    ) -> None:
        for name, content in (("script", "#!/no/such/interpreter\n"), ("text", "nothing to execute")):
            (bundles.image / name).write_text(content)
            (bundles.image / name).chmod(0o755)
        spec = bundles.spec(*args)
        with pytest.raises(StartError) as caught:
            await launcher.start(spec)
        assert (caught.value.message, caught.value.code) == (message, code)
        assert not Hierarchies.detect().open(spec.cgroup).exists()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"user": "foo"}, "unable to find user foo: no matching entries in passwd file"),
            ({"user": "root:foo"}, "unable to find group foo: no matching entries in group file"),
            ({"cwd": "/etc/passwd"}, 'chdir to cwd ("/etc/passwd") set in config.json failed: not a directory'),
            ({"rlimits": (Rlimit("nonsense", 1, 1),)}, "invalid ulimit type: nonsense"),
            (
                {"sysctls": {"no.such.thing": "1"}},
                "sysctl 'no.such.thing' cannot be set to '1': no such file or directory",
            ),
            ({"mounts": (Mount("bind", "/no/such", "/x"),)}, "bind source path does not exist: /no/such"),
        ],
    )
    async def test_settings(
        self, launcher: Launcher, bundles: Bundles, changes: dict[str, object], message: str
    ) -> None:
        spec = bundles.spec("true", **changes)
        with pytest.raises(StartError) as caught:
            await launcher.start(spec)
        assert caught.value.message == message
        assert os.listdir(spec.exec_dir) == []
        assert not Hierarchies.detect().open(spec.cgroup).exists()

    async def test_a_directory_onto_a_file(self, launcher: Launcher, bundles: Bundles, tmp_path: Path) -> None:
        with pytest.raises(StartError, match="are you trying to mount a directory onto a file"):
            await launcher.start(bundles.spec("true", mounts=(Mount("bind", str(tmp_path), "/etc/passwd"),)))

    async def test_a_directory_that_the_engine_did_not_make(self, launcher: Launcher, bundles: Bundles) -> None:
        with pytest.raises(StartError, match="no-such-dir"):
            await launcher.start(bundles.spec("true", exec_dir="/run/no-such-dir"))
        assert (await run(launcher, bundles.spec("true"))).code == 0


class TestSurroundings:
    async def test_namespaces_are_its_own(self, launcher: Launcher, bundles: Bundles) -> None:
        output = await run(launcher, bundles.spec("sh", "-c", "cd /proc/1/ns; for kind in *; do readlink $kind; done"))
        inside = dict(re.findall(r"(\w+):\[(\d+)\]", output.stdout))
        for kind in ("pid", "mnt", "net", "ipc", "uts", "cgroup"):
            assert f"{kind}:[{inside[kind]}]" != os.readlink(f"/proc/self/ns/{kind}"), kind

    async def test_processes_hostname_and_loopback(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sh", "-c", "ps -o pid,comm; hostname; ip addr show lo", domainname="example.org")
        output = await run(launcher, spec)
        assert re.search(r"^ +1 sh$", output.stdout, re.MULTILINE)
        assert spec.hostname in output.stdout
        assert "<LOOPBACK,UP,LOWER_UP>" in output.stdout
        assert "127.0.0.1/8" in output.stdout

    async def test_devices(self, launcher: Launcher, bundles: Bundles) -> None:
        script = (
            f"cd /dev; ls; stat -c '%n %t:%T %a' {' '.join(NODES)}; for link in fd stdin ptmx; do readlink $link; done"
        )
        output = await run(launcher, bundles.spec("sh", "-c", script))
        assert output.stdout.split("null 1:3")[0].split() == sorted(
            [
                *HOST_LINKS,
                "mqueue",
                "ptmx",
                "pts",
                "shm",
                *STREAM_LINKS,
                *NODES,
            ]
        )
        for line in (
            "null 1:3 666",
            "zero 1:5 666",
            "full 1:7 666",
            "random 1:8 666",
            "urandom 1:9 666",
            "tty 5:0 666",
        ):
            assert line in output.stdout
        assert output.stdout.endswith("/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n")

    async def test_user_home_and_groups(self, launcher: Launcher, bundles: Bundles) -> None:
        output = await run(launcher, bundles.spec("sh", "-c", "id; echo $HOME", user="bob", groups=("44",)))
        assert output.stdout == "uid=1000(bob) gid=1000(bob) groups=29(audio),44,1000(bob)\n/home/bob\n"

    async def test_home_that_is_given_stays(self, launcher: Launcher, bundles: Bundles) -> None:
        output = await run(launcher, bundles.spec("sh", "-c", "echo $HOME", env=("PATH=/bin", "HOME=/elsewhere")))
        assert output.stdout == "/elsewhere\n"

    async def test_a_user_may_open_its_own_streams(self, launcher: Launcher, bundles: Bundles) -> None:
        output = await run(launcher, bundles.spec("sh", "-c", "echo a > /dev/stdout; echo b > /dev/stderr", user="bob"))
        assert (output.code, output.stdout, output.stderr) == (0, "a\n", "b\n")

    async def test_a_missing_directory_is_made_and_is_roots(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sh", "-c", "pwd; stat -c '%u:%g %a' .; umask", cwd="/srv/new", user="bob")
        assert (await run(launcher, spec)).stdout == "/srv/new\n0:0 755\n0022\n"

    async def test_a_read_only_root(self, launcher: Launcher, bundles: Bundles) -> None:
        script = "touch /x; touch /dev/shm/x && echo shm"
        output = await run(launcher, bundles.spec("sh", "-c", script, readonly_root=True))
        assert (output.stdout, output.stderr) == ("shm\n", "touch: /x: Read-only file system\n")

    async def test_rlimits_as_far_as_they_go(self, launcher: Launcher, bundles: Bundles) -> None:
        output = await run(
            launcher,
            bundles.spec("sh", "-c", "ulimit -n; ulimit -Hn", rlimits=(Rlimit("nofile", 100, 200),)),
        )
        assert output.stdout == "100\n200\n"
        assert output.warnings == ()
        raised = bundles.spec("sh", "-c", "ulimit -n", rlimits=(Rlimit("nofile", 1 << 29, 1 << 29),))
        with contextlib.suppress(StartError):  # no kernel allows that many
            assert (await run(launcher, raised)).warnings

    async def test_sysctls(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sysctl", "-n", "net.ipv4.ip_forward", sysctls={"net.ipv4.ip_forward": "1"})
        assert (await run(launcher, spec)).stdout == "1\n"

    async def test_devices_that_are_asked_for(self, launcher: Launcher, bundles: Bundles) -> None:
        from wherry.runtime.spec import Device

        spec = bundles.spec(
            "stat", "-c", "%t:%T %a", "/dev/sub/mine", devices=(Device("/dev/null", "/dev/sub/mine", 0o600),)
        )
        assert (await run(launcher, spec)).stdout == "1:3 600\n"

    async def test_cgroup_limits_and_view(self, launcher: Launcher, bundles: Bundles) -> None:
        resources = Resources(memory=64 << 20, pids=50, devices=DEFAULT_DEVICE_RULES)
        script = (
            "cat /proc/self/cgroup; find /sys/fs/cgroup -name memory.limit_in_bytes -o -name memory.max | xargs cat"
        )
        output = await run(
            launcher, bundles.spec("sh", "-c", script.replace("xargs", "busybox xargs"), resources=resources)
        )
        assert all(line.endswith(":/") for line in output.stdout.splitlines() if ":" in line)
        assert str(64 << 20) in output.stdout

    async def test_many_layers_with_long_names(self, launcher: Launcher, bundles: Bundles, tmp_path: Path) -> None:
        layers = [str(bundles.image)]
        for number in range(127):
            layer = tmp_path / ("layer-" + "x" * 200) / f"{number:03}-{'y' * 100}"
            layer.mkdir(parents=True)
            (layer / f"file{number}").touch()
            layers.append(str(layer))
        spec = bundles.spec("sh", "-c", "ls / | grep -c file")
        where = bundles.upper(spec).parent
        options = (f"lowerdir={':'.join(layers)}", f"upperdir={where}/upper", f"workdir={where}/work")
        spec = msgspec.structs.replace(spec, rootfs=(Mount("overlay", "overlay", "", options),))
        assert (await run(launcher, spec)).stdout == "127\n"

    async def test_volumes(self, launcher: Launcher, bundles: Bundles, tmp_path: Path) -> None:
        (tmp_path / "volume").mkdir()
        (tmp_path / "file").write_text("content\n")
        mounts = (
            Mount("bind", f"{tmp_path}/volume", "/deep/down", ("rbind", "rprivate")),
            Mount("bind", f"{tmp_path}/file", "/etc/file", ("bind", "ro")),
        )
        script = "touch /deep/down/made; cat /etc/file; touch /etc/file"
        output = await run(launcher, bundles.spec("sh", "-c", script, mounts=mounts))
        assert output.stdout == "content\n"
        assert "Read-only file system" in output.stderr
        assert (tmp_path / "volume/made").exists()

    async def test_the_network_of_the_host(self, launcher: Launcher, bundles: Bundles) -> None:
        kinds = tuple(Namespace(kind) for kind in ("pid", "mnt", "ipc", "uts", "cgroup"))
        output = await run(launcher, bundles.spec("readlink", "/proc/self/ns/net", namespaces=kinds))
        assert output.stdout.strip() == os.readlink("/proc/self/ns/net")

    async def test_namespaces_of_another_container(self, launcher: Launcher, bundles: Bundles) -> None:
        first = await launcher.start(bundles.spec("sleep", "1000"))
        joined = ("pid", "net", "ipc")
        kinds = tuple(
            Namespace(kind, first.pid if kind in joined else None)
            for kind in ("pid", "mnt", "net", "ipc", "uts", "cgroup")
        )
        shm = Mount("bind", f"/proc/{first.pid}/root/dev/shm", "/dev/shm", ("rbind",))
        mounts = (*(mount for mount in KERNEL_MOUNTS if mount.target != "/dev/shm"), shm)
        script = "readlink /proc/self/ns/net; ps -o comm; echo shared > /dev/shm/x"
        spec = msgspec.structs.replace(bundles.spec("sh", "-c", script, namespaces=kinds), mounts=mounts)
        output = await run(launcher, spec)
        assert output.stdout.splitlines()[0] == os.readlink(f"/proc/{first.pid}/ns/net")
        assert "sleep" in output.stdout
        _, stream = await first.exec("e", bundles.process("cat", "/dev/shm/x"), (False, True, True))
        assert stream is not None
        assert split(await read_all(stream))[0] == b"shared\n"
        assert not first.exited.done()
        first.kill()
        await first.exited

    async def test_the_pids_of_the_host(self, launcher: Launcher, bundles: Bundles) -> None:
        kinds = tuple(Namespace(kind) for kind in ("mnt", "net", "ipc", "uts", "cgroup"))
        spec = bundles.spec("sh", "-c", "sleep 1000 & echo $$ $!", namespaces=kinds)
        output = await run(launcher, spec)
        shell, sleep = map(int, output.stdout.split())
        assert output.code == 0
        assert shell > 1
        await until_gone(sleep)  # what the container leaves behind ends with it
        assert not Hierarchies.detect().open(spec.cgroup).exists()


class TestStreams:
    async def test_input(self, launcher: Launcher, bundles: Bundles) -> None:
        data = os.urandom(100_000).hex().encode()
        output = await run(launcher, bundles.spec("cat", stdin=True, stdin_once=True), data)
        assert output.stdout == data.decode()

    async def test_without_input_it_is_at_its_end(self, launcher: Launcher, bundles: Bundles) -> None:
        output = await run(launcher, bundles.spec("sh", "-c", "cat; readlink /proc/self/fd/0"))
        assert (output.code, output.stdout) == (0, "/dev/null\n")

    async def test_input_stays_open_for_the_next_client(self, launcher: Launcher, bundles: Bundles) -> None:
        monitor, first = await start_attached(launcher, bundles.spec("cat", stdin=True), stdin=True)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(first, b"one\n")
        await read_until(first, b"one\n")
        first.close()
        second = await monitor.attach(True, True, True)
        await loop.sock_sendall(second, b"two\n")
        await read_until(second, b"two\n")
        assert not monitor.exited.done()
        monitor.kill()
        assert await read_all(second) == b""
        second.close()
        await monitor.exited

    async def test_input_ends_when_its_client_goes(self, launcher: Launcher, bundles: Bundles) -> None:
        monitor, stream = await start_attached(launcher, bundles.spec("cat", stdin=True, stdin_once=True), stdin=True)
        stream.close()
        assert (await monitor.exited).code == 0

    async def test_everything_that_was_printed_is_delivered_and_logged(
        self, launcher: Launcher, bundles: Bundles
    ) -> None:
        spec = bundles.spec("sh", "-c", "dd if=/dev/zero bs=1M count=20 2>/dev/null | tr '\\0' x; echo END")
        output = await run(launcher, spec)
        assert output.stdout == "x" * (20 << 20) + "END\n"
        assert log_of(spec.log) == output.stdout

    async def test_two_clients_get_the_same(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sh", "-c", "read x; echo got $x", stdin=True, stdin_once=True)
        monitor, first = await start_attached(launcher, spec, stdin=True)
        second = await monitor.attach(False, True, False)
        await asyncio.get_running_loop().sock_sendall(first, b"it\n")
        assert split(await read_all(first))[0] == split(await read_all(second))[0] == b"got it\n"
        await monitor.exited
        first.close()
        second.close()

    async def test_a_client_that_does_not_read_stops_the_process(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sh", "-c", "yes | head -c 50000000; echo; echo END", log=Log("none"))
        monitor, stream = await start_attached(launcher, spec)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(monitor.exited), 1)
        rss = int(re.findall(r"VmRSS:\s+(\d+)", contents(f"/proc/{monitor.monitor_pid}/status"))[0])
        assert rss < 24 << 10  # kilobytes: what is unread is bounded
        stdout, _ = split(await read_all(stream))
        assert len(stdout) == 50_000_000 + len("\nEND\n")
        assert (await monitor.exited).code == 0
        stream.close()

    async def test_a_client_that_goes_lets_the_process_run_on(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sh", "-c", "yes | head -c 5000000; exit 5", log=Log("none"))
        monitor, stream = await start_attached(launcher, spec)
        stream.close()
        assert (await monitor.exited).code == 5

    async def test_output_left_in_the_pipe_is_not_lost(self, launcher: Launcher, bundles: Bundles) -> None:
        for _ in range(10):
            output = await run(launcher, bundles.spec("head", "-c", "60000", "/dev/zero"))
            assert len(output.stdout) == 60000


class TestTerminals:
    async def test_a_terminal(self, launcher: Launcher, bundles: Bundles) -> None:
        script = (
            "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; ls -l /dev/console; echo > /dev/console"
        )
        output = await run(launcher, bundles.spec("sh", "-c", script, tty=True, console_size=(33, 111)))
        assert output.stdout.startswith("/dev/pts/0\r\n33 111\r\nall\r\ncrw--w----")
        assert "136,   0" in output.stdout

    async def test_resize_and_interrupt(self, launcher: Launcher, bundles: Bundles) -> None:
        script = (
            "trap 'stty size' WINCH; trap 'echo interrupted; exit 9' INT; echo ready; while true; do sleep 0.05; done"
        )
        monitor, stream = await start_attached(
            launcher, bundles.spec("sh", "-c", script, tty=True, stdin=True), stdin=True
        )
        await read_until(stream, b"ready")
        await monitor.resize(40, 120)
        await read_until(stream, b"40 120")
        await asyncio.get_running_loop().sock_sendall(stream, b"\x03")
        await read_until(stream, b"interrupted")
        assert (await monitor.exited).code == 9
        stream.close()

    async def test_a_user_owns_its_terminal(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sh", "-c", "stat -c %u $(tty); echo ok > $(tty)", tty=True, user="bob")
        assert (await run(launcher, spec)).stdout == "1000\r\nok\r\n"

    async def test_ctrl_c_through_the_reaper(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sleep", "1000", tty=True, stdin=True, init=True)
        monitor, stream = await start_attached(launcher, spec, stdin=True)
        await asyncio.get_running_loop().sock_sendall(stream, b"\x03")
        assert (await monitor.exited).code == 130
        stream.close()


class TestReaper:
    async def test_it_is_pid_1_and_reaps(self, launcher: Launcher, bundles: Bundles) -> None:
        script = "sh -c 'sleep 0 & exec sleep 0' ; sleep 0.2; ps -o pid,stat,comm; cat /proc/1/comm"
        output = await run(launcher, bundles.spec("sh", "-c", script, init=True))
        assert output.stdout.endswith("wherry-init\n")
        assert " Z" not in output.stdout

    async def test_it_passes_signals_and_the_exit_code_on(self, launcher: Launcher, bundles: Bundles) -> None:
        script = "trap 'exit 42' TERM; echo ready; while true; do sleep 0.05; done"
        monitor, stream = await start_attached(launcher, bundles.spec("sh", "-c", script, init=True))
        await read_until(stream, b"ready")
        monitor.signal(signal.SIGTERM)
        assert (await monitor.exited).code == 42
        stream.close()

    async def test_a_command_that_is_not_there(self, launcher: Launcher, bundles: Bundles) -> None:
        with pytest.raises(StartError) as caught:
            await launcher.start(bundles.spec("nope", init=True))
        assert caught.value.code == 127


class TestExec:
    async def test_it_is_inside(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sleep", "1000")
        monitor = await launcher.start(spec)
        script = "hostname; ps -o comm | grep sleep; cat /proc/self/cgroup /proc/1/cgroup | sort -u | wc -l; exit 7"
        started, stream = await monitor.exec("e", bundles.process("sh", "-c", script), (False, True, True))
        assert stream is not None
        stdout, stderr = split(await read_all(stream))
        lines = len(contents("/proc/self/cgroup").splitlines())
        assert (stdout.decode(), stderr) == (f"{spec.hostname}\nsleep\n{lines}\n", b"")
        assert await started.exited == 7
        stream.close()
        monitor.kill()
        await monitor.exited

    async def test_input_and_signals(self, launcher: Launcher, bundles: Bundles) -> None:
        monitor = await launcher.start(bundles.spec("sleep", "1000"))
        started, stream = await monitor.exec("e", bundles.process("cat", stdin=True), (True, True, True))
        assert stream is not None
        await asyncio.get_running_loop().sock_sendall(stream, b"typed")
        stream.shutdown(socket.SHUT_WR)
        assert split(await read_all(stream))[0] == b"typed"
        assert await started.exited == 0
        stream.close()
        started, nothing = await monitor.exec("f", bundles.process("sleep", "1000"))
        assert nothing is None
        started.kill()
        assert await started.exited == 137
        monitor.kill()
        await monitor.exited

    async def test_a_terminal_of_its_own(self, launcher: Launcher, bundles: Bundles) -> None:
        monitor = await launcher.start(bundles.spec("sleep", "1000"))
        process = bundles.process(
            "sh", "-c", "tty; stty size; read x; stty size; echo $x", tty=True, stdin=True, console_size=(5, 6)
        )
        started, stream = await monitor.exec("e", process, (True, True, True))
        assert stream is not None
        await read_until(stream, b"5 6\r\n")
        await monitor.resize(20, 30, "e")
        await asyncio.get_running_loop().sock_sendall(stream, b"word\r")
        assert b"20 30\r\nword\r\n" in await read_all(stream)
        assert await started.exited == 0
        stream.close()
        monitor.kill()
        await monitor.exited

    @pytest.mark.parametrize(
        ("args", "changes", "message", "code"),
        [
            (("nope",), {}, 'exec: "nope": executable file not found in $PATH', 127),
            (("true",), {"user": "foo"}, "unable to find user foo: no matching entries in passwd file", 125),
            (
                ("true",),
                {"cwd": "/nope"},
                'chdir to cwd ("/nope") set in config.json failed: no such file or directory',
                127,
            ),
        ],
    )
    async def test_errors(
        self,
        launcher: Launcher,
        bundles: Bundles,
        args: tuple[str, ...],
        changes: dict[str, str],
        message: str,
        code: int,
    ) -> None:
        monitor = await launcher.start(bundles.spec("sleep", "1000"))
        with pytest.raises(StartError) as caught:
            await monitor.exec("e", bundles.process(*args, **changes), (False, True, True))
        assert (caught.value.message, caught.value.code) == (message, code)
        assert not monitor.exited.done()
        monitor.kill()
        await monitor.exited

    async def test_it_ends_with_the_container(self, launcher: Launcher, bundles: Bundles) -> None:
        monitor = await launcher.start(bundles.spec("sleep", "1000"))
        started, stream = await monitor.exec("e", bundles.process("sleep", "1000"), (False, True, True))
        assert stream is not None
        monitor.kill()
        assert await started.exited == 137
        assert await read_all(stream) == b""
        stream.close()
        await monitor.exited

    async def test_many_at_once(self, launcher: Launcher, bundles: Bundles) -> None:
        monitor = await launcher.start(bundles.spec("sleep", "1000"))

        async def one(number: int) -> int:
            started, _ = await monitor.exec(f"e{number}", bundles.process("sh", "-c", f"exit {number}"))
            return await started.exited

        assert await asyncio.gather(*(one(number) for number in range(20))) == list(range(20))
        monitor.kill()
        await monitor.exited


class TestSurvival:
    async def test_a_daemon_that_comes_back(self, bundles: Bundles, tmp_path: Path) -> None:
        """The old daemon is simulated by dropping everything that it holds."""
        launcher = await Launcher.spawn(str(tmp_path))
        spec = bundles.spec("sh", "-c", "while read x; do echo $x; done; exit 6", stdin=True, stdin_once=False)
        monitor, stream = await start_attached(launcher, spec, stdin=True)
        ended, _ = await monitor.exec("ended", bundles.process("sh", "-c", "exit 4"))
        assert await ended.exited == 4
        running, _ = await monitor.exec("running", bundles.process("sh", "-c", "sleep 1000"))
        await asyncio.get_running_loop().sock_sendall(stream, b"before\n")
        await read_until(stream, b"before")
        stream.close()
        monitor.close()
        await launcher.close()

        found = await connect(spec.exec_dir)
        assert isinstance(found, Monitor)
        assert (found.pid, found.started_at, found.monitor_pid) == (
            monitor.pid,
            monitor.started_at,
            monitor.monitor_pid,
        )
        future = found.exec_exited("ended")
        assert future is not None
        assert await future == 4
        again = await found.attach(True, True, True)
        await asyncio.get_running_loop().sock_sendall(again, b"after\n")
        await read_until(again, b"after")
        os.kill(running.pid, signal.SIGKILL)
        still = found.exec_exited("running")
        assert still is not None
        assert await still == 137
        found.kill()
        assert (await found.exited).code == 137
        again.close()
        assert log_of(spec.log) == "before\nafter\n"

    async def test_a_container_that_ended_meanwhile(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sh", "-c", "exit 11")
        monitor = await launcher.start(spec)
        monitor.close()
        await until_gone(monitor.monitor_pid)
        found = await connect(spec.exec_dir)
        assert isinstance(found, Exit)
        assert (found.code, found.oom, found.error) == (11, False, "")

    async def test_nothing_known(self, bundles: Bundles) -> None:
        assert await connect(bundles.spec("true").exec_dir) is None
        assert await connect("/run/no-such-directory") is None

    async def test_a_monitor_that_is_killed(self, launcher: Launcher, bundles: Bundles) -> None:
        other = await launcher.start(bundles.spec("sleep", "1000"))
        spec = bundles.spec("sh", "-c", "sleep 1000 & sleep 1000")
        monitor, stream = await start_attached(launcher, spec)
        os.kill(monitor.monitor_pid, signal.SIGKILL)
        ended = await monitor.exited
        assert (ended.code, ended.error) == (137, MONITOR_DIED)
        assert await read_all(stream) == b""
        await until_gone(monitor.pid)
        assert not Hierarchies.detect().open(spec.cgroup).exists()
        assert await connect(spec.exec_dir) is None
        assert not other.exited.done()
        other.kill()
        await other.exited
        stream.close()

    async def test_a_launcher_that_is_killed(self, launcher: Launcher, bundles: Bundles) -> None:
        running = await launcher.start(bundles.spec("sleep", "1000"))
        pid = launcher.pid
        os.kill(pid, signal.SIGKILL)
        for _ in range(4):
            assert (await run(launcher, bundles.spec("echo", "hello"))).stdout == "hello\n"
        assert launcher.pid not in (0, pid)
        assert not running.exited.done()
        running.kill()
        await running.exited

    async def test_a_request_that_makes_no_sense(self, launcher: Launcher, bundles: Bundles) -> None:
        spec = bundles.spec("sleep", "1000")
        monitor = await launcher.start(spec)
        stranger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stranger.connect(f"{spec.exec_dir}/monitor.sock")
        for nonsense in (b"{", b'{"type":"Unknown"}', b'{"type":"Attach","number":1}', b"\xff" * 1000):
            stranger.send(nonsense)
            assert b"Failed" in stranger.recv(65536)
        stranger.send(b'{"type":"Attach","number":1,"streams":[]}')  # and no socket beside it
        assert b"Failed" in stranger.recv(65536)
        stranger.close()
        assert (await connect(spec.exec_dir)) is not None
        monitor.kill()
        assert (await monitor.exited).code == 137

    async def test_the_socket_below_a_long_path(self, launcher: Launcher, bundles: Bundles, tmp_path: Path) -> None:
        directory = tmp_path / ("d" * 120)
        directory.mkdir()
        monitor = await launcher.start(bundles.spec("sleep", "1000", exec_dir=str(directory)))
        assert isinstance(await connect(str(directory)), Monitor)
        monitor.kill()
        await monitor.exited


async def test_a_monitor_that_dies_before_it_has_told_of_the_start(
    launcher: Launcher, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container starts all the same, and there is one of it."""
    started = Monitor.started
    killed: list[Monitor] = []

    async def once_killed(monitor: Monitor) -> None:
        await started(monitor)
        if not killed:
            killed.append(monitor)
            os.kill(monitor.monitor_pid, signal.SIGKILL)
            raise MonitorGone("killed")

    monkeypatch.setattr(Monitor, "started", once_killed)
    monitor = await launcher.start(bundles.spec("sh", "-c", "sleep 1000 & sleep 1000 & wait"))
    assert killed and killed[0].pid != monitor.pid
    await until_gone(killed[0].pid)
    monitor.kill()
    assert (await monitor.exited).code == 137


async def test_what_a_start_writes_to_is_copied_ahead(launcher: Launcher, bundles: Bundles) -> None:
    """From the second start on: the first one has found out which memory that is."""
    faults = []
    for _ in range(2):
        preforked = await until_waiting(launcher)
        before = faults_of(preforked)
        monitor = await launcher.start(bundles.spec("sleep", "1000"))
        assert monitor.monitor_pid == preforked
        faults.append(faults_of(preforked) - before)
        monitor.kill()
        await monitor.exited
    assert faults[1] < faults[0] / 2


def faults_of(pid: int) -> int:
    """How often it had to be given a page."""
    return int(contents(f"/proc/{pid}/stat").rpartition(")")[2].split()[7])


async def until_waiting(launcher: Launcher) -> int:
    """The preforked monitor, when it and its child sleep until there is a request."""
    while True:
        for preforked in contents(f"/proc/{launcher.pid}/task/{launcher.pid}/children").split():
            children = contents(f"/proc/{preforked}/task/{preforked}/children").split()
            if len(children) == 1 and all(
                " (wherry-monitor) S " in contents(f"/proc/{pid}/stat") for pid in (preforked, *children)
            ):
                return int(preforked)
        await asyncio.sleep(0.01)


class TestLeaks:
    def footprint(self, launcher: Launcher, bundles: Bundles) -> tuple[int, int, int, int]:
        """Descriptors here and in the launcher, mounts, cgroups: those of these tests, since others may run beside."""
        parents = Hierarchies.detect().open(bundles.cgroup_parent).all_directories()
        cgroups = sum(entry.is_dir() for parent in parents for entry in os.scandir(parent))
        mounts = contents("/proc/self/mountinfo").count(str(bundles.directory))
        return len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{launcher.pid}/fd")), mounts, cgroups

    async def test_fifty_in_a_row(self, launcher: Launcher, bundles: Bundles) -> None:
        await run(launcher, bundles.spec("true"))
        monitors = []
        before = self.footprint(launcher, bundles)
        for number in range(50):
            monitor, stream = await start_attached(launcher, bundles.spec("sh", "-c", f"exit {number}"))
            await read_all(stream)
            stream.close()
            assert (await monitor.exited).code == number
            monitor.close()
            monitors.append(monitor.monitor_pid)
        for pid in monitors:
            await until_gone(pid)
        after = self.footprint(launcher, bundles)
        assert after[0] == before[0]
        assert after[1] <= before[1] + 1  # the pipe to the preforked one may be just being made
        assert after[2:] == before[2:]

    async def test_twenty_at_a_time(self, launcher: Launcher, bundles: Bundles) -> None:
        outputs = await asyncio.gather(*(run(launcher, bundles.spec("echo", str(number))) for number in range(20)))
        assert [output.stdout for output in outputs] == [f"{number}\n" for number in range(20)]

    async def test_a_start_that_waits_when_the_daemon_goes_does_not_happen(
        self, launcher: Launcher, bundles: Bundles
    ) -> None:
        preforked = _first_child(launcher.pid)
        os.kill(preforked, signal.SIGSTOP)
        spec = bundles.spec("touch", "/started")
        starting = asyncio.create_task(launcher.start(spec))
        await asyncio.sleep(0.1)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        os.kill(preforked, signal.SIGCONT)
        await until_gone(preforked)
        assert (await run(launcher, bundles.spec("echo", "next"))).stdout == "next\n"
        assert not (bundles.upper(spec) / "started").exists()

    async def test_nothing_runs_on_when_the_daemon_goes(self, bundles: Bundles, tmp_path: Path) -> None:
        launcher = await Launcher.spawn(str(tmp_path))
        await run(launcher, bundles.spec("true"))
        children = contents(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
        spares = [int(pid) for pid in children.split()]
        await launcher.close()
        for pid in spares:
            await until_gone(pid)


def test_a_start_message_stays_small() -> None:
    """What has no bounded size travels in a memfd."""
    assert len(ipc.encode(ipc.Start((ipc.Streams(True, True, True),) * 20))) < 4096
