"""Attacks on the runtime, each of which has been a hole in some engine; see the design's section 7."""

import asyncio
import ctypes
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.support.bundles import KERNEL_MOUNTS, Bundles, read_all, read_until, run, split, start_attached
from wherry.linux import mounts
from wherry.linux.cgroups import Hierarchies
from wherry.linux.mounts import Mount
from wherry.runtime.launcher_client import Launcher, _in_memory
from wherry.runtime.monitor_client import StartError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")


class TestTheInterpreter:
    """CVE-2019-5736: the runtime's own binary, overwritten through /proc/<pid>/exe."""

    async def test_nobody_can_write_to_what_runs(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: /proc/<pid>/exe of the engine's can be opened for writing, and is the interpreter on the disk."""
        monitor = await launcher.start(bundles.spec("sleep", "1000"))
        for pid in (launcher.pid, monitor.monitor_pid):
            fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
            assert os.fstat(fd).st_dev != os.stat(sys.executable).st_dev
            os.close(fd)
        exe = os.open(f"/proc/{monitor.monitor_pid}/exe", os.O_PATH)
        monitor.kill()
        await monitor.exited
        await launcher.close()  # so that it is no longer "text file busy"
        with pytest.raises(OSError, match="Read-only file system"):
            os.open(f"/proc/self/fd/{exe}", os.O_WRONLY)
        os.close(exe)

    def test_the_copy_in_memory_is_sealed(self) -> None:
        """A hole: the copy, which every process of the engine's executes, is written to."""
        fd = _in_memory(os.path.realpath(sys.executable))
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"#!", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        shown = subprocess.run(
            [sys.executable, "-c", "print('runs')"],
            executable=f"/proc/self/fd/{fd}",
            pass_fds=(fd,),
            capture_output=True,
        )
        assert shown.stdout == b"runs\n"
        os.close(fd)

    async def test_the_runtime_as_the_program(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: the container executes the engine's own program, and may then open it."""
        (bundles.image / "evil").write_text("#!/proc/self/exe\n")
        (bundles.image / "evil").chmod(0o755)
        for program in ("/proc/self/exe", "/evil"):
            with pytest.raises(StartError):
                await launcher.start(bundles.spec(program))

    async def test_a_process_that_enters_cannot_be_looked_at(self, launcher: Launcher, bundles: Bundles) -> None:
        """The container watches /proc for those that come in by exec, and opens all that it can of them."""
        watch = """
        while true; do
          for p in /proc/[0-9]*; do
            case $p in /proc/1) continue;; esac
            e=$(readlink $p/exe) && case $e in /bin/*|/memfd:wherry-init*) ;; *) echo "SAW $e";; esac
            for f in $p/fd/*; do
              t=$(readlink $f 2>/dev/null) && case $t in *memfd*|*anon_inode*) echo "SAW $f $t";; esac
            done
          done
        done 2>/dev/null
        """
        monitor, stream = await start_attached(launcher, bundles.spec("sh", "-c", watch))
        for number in range(15):
            started, _ = await monitor.exec(f"e{number}", bundles.process("true"))
            await started.exited
        monitor.kill()
        assert b"SAW" not in await read_all(stream)
        await monitor.exited
        stream.close()


class TestLeaks:
    """CVE-2024-21626: descriptors and directories of the host in the container's hands."""

    LIST = "cd /proc/self/fd; for f in *; do readlink $f; done 2>/dev/null"

    async def test_descriptors_of_the_first_process(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole is a fourth descriptor."""
        output = await run(launcher, bundles.spec("sh", "-c", "ls -l /proc/1/fd"))
        numbers = re.findall(r" (\d+) -> (\S+)", output.stdout)
        assert [number for number, _ in numbers] == ["0", "1", "2"]
        assert [target.partition(":")[0] for _, target in numbers] == ["/dev/null", "pipe", "pipe"]

    async def test_descriptors_of_exec(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole is a fourth descriptor."""
        monitor = await launcher.start(bundles.spec("sleep", "1000"))
        for tty in (False, True):
            process = bundles.process("sh", "-c", "ls -l /proc/$$/fd", tty=tty)
            _, stream = await monitor.exec(f"e{tty}", process, (False, True, True))
            assert stream is not None
            data = await read_all(stream)
            numbers = re.findall(r" (\d+) -> ", (data if tty else split(data)[0]).decode())
            # busybox's shell keeps the terminal open as 10
            assert [number for number in numbers if number != "10"] == ["0", "1", "2"]
            stream.close()
        monitor.kill()
        await monitor.exited

    async def test_descriptors_of_the_reaper(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: process 1 of --init holds something of the engine's open, or is the engine's program."""
        script = "echo $(ls /proc/1/fd); readlink /proc/1/root; readlink /proc/1/cwd"
        output = await run(launcher, bundles.spec("sh", "-c", script, init=True))
        assert output.stdout == "\n/\n/\n"

    @pytest.mark.parametrize("number", range(3, 12))
    async def test_a_working_directory_by_a_descriptor(self, launcher: Launcher, bundles: Bundles, number: int) -> None:
        """A hole: the program runs, in a directory of the host's that was still open."""
        (bundles.image / "link").symlink_to(f"/proc/self/fd/{number}")
        for cwd in (f"/proc/self/fd/{number}", f"/proc/self/fd/{number}/..", "/link"):
            with pytest.raises(StartError):
                await launcher.start(bundles.spec("ls", cwd=cwd))

    async def test_a_working_directory_by_a_descriptor_in_exec(self, launcher: Launcher, bundles: Bundles) -> None:
        """The same by exec."""
        monitor = await launcher.start(bundles.spec("sleep", "1000"))
        for number in range(3, 12):
            with pytest.raises(StartError, match="chdir to cwd"):
                await monitor.exec(f"e{number}", bundles.process("ls", cwd=f"/proc/self/fd/{number}"))
        monitor.kill()
        await monitor.exited

    def test_a_directory_outside_the_root_is_noticed(self, tmp_path: Path) -> None:
        """The last guard, where every other has failed and a descriptor of the host is there to be entered."""
        program = (
            "import os, sys\n"
            "from wherry.runtime import identity\n"
            "from wherry.runtime.ipc import StartError\n"
            "outside = os.open('/', os.O_PATH)\n"
            "os.chroot(sys.argv[1])\n"
            "os.chdir = lambda path: os.fchdir(outside)\n"
            "try: identity.enter_directory('/work')\n"
            "except StartError as error: print(error.message)\n"
        )
        shown = subprocess.run([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, check=True)
        assert shown.stdout == b'chdir to cwd ("/work") set in config.json failed: no such file or directory\n'

    async def test_the_environment_of_the_engine_stays_outside(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: credentials of who started the engine are in the container's environment."""
        output = await run(launcher, bundles.spec("cat", "/proc/self/environ"))
        assert output.stdout == "PATH=/bin\0HOME=/root\0"


class TestMountTargets:
    """CVE-2021-30465 and its kin: a target that leads out of the root."""

    @pytest.mark.parametrize("link", ["/../../../../../../OUT", "../../../../../../../../OUT", "/OUT"])
    async def test_a_link_out_of_the_root(
        self, launcher: Launcher, bundles: Bundles, tmp_path: Path, link: str
    ) -> None:
        """A hole: a directory is made, or something mounted, in the host's folder that the image's link names."""
        outside, volume = tmp_path / "outside", tmp_path / "volume"
        outside.mkdir()
        volume.mkdir()
        (bundles.image / "target").symlink_to(link.replace("OUT", str(outside).lstrip("/")))
        mount = Mount("bind", str(volume), "/target/deep", ("rbind",))
        output = await run(launcher, bundles.spec("sh", "-c", "touch /target/deep/made && echo ok", mounts=(mount,)))
        assert output.stdout == "ok\n"
        assert (volume / "made").exists()
        assert os.listdir(outside) == []

    async def test_a_target_that_is_swapped_all_the_time(
        self, launcher: Launcher, bundles: Bundles, tmp_path: Path
    ) -> None:
        """One thread exchanges a directory of a shared volume and a link; containers mount onto it meanwhile."""
        shared, payload = tmp_path / "shared", tmp_path / "payload"
        (shared / "dir").mkdir(parents=True)
        payload.mkdir()
        (payload / "mark").touch()
        (shared / "link").symlink_to("/" + "../" * 20)
        exchange, stop = ctypes.CDLL(None).renameat2, asyncio.Event()

        def swap() -> None:
            fd = os.open(shared, os.O_PATH)
            while not stop.is_set():
                exchange(fd, b"dir", fd, b"link", 2)
            os.close(fd)

        swapping = asyncio.get_running_loop().run_in_executor(None, swap)
        mounts = (Mount("bind", str(shared), "/s", ("rbind",)), Mount("bind", str(payload), "/s/dir/etc", ("rbind",)))
        before = Path("/proc/self/mountinfo").read_text()  # noqa: ASYNC240  # a file of the kernel's
        try:
            for _ in range(20):
                try:
                    output = await run(
                        launcher, bundles.spec("sh", "-c", "ls /s; ls -d /proc/1/cwd/bin", mounts=mounts)
                    )
                    assert output.code == 0
                except StartError:
                    continue  # the directory was a link that moment
        finally:
            stop.set()
            await swapping
        assert Path("/proc/self/mountinfo").read_text() == before  # noqa: ASYNC240
        assert not os.path.exists("/etc/mark")  # noqa: ASYNC240

    @pytest.mark.parametrize("target", ["/proc", "/sys", "/dev"])
    @pytest.mark.parametrize("link", ["elsewhere", "/../../../../tmp", ""])
    async def test_a_kernel_file_system_behind_a_link(
        self, launcher: Launcher, bundles: Bundles, target: str, link: str
    ) -> None:
        """CVE-2019-19921: mounted elsewhere, what is masked below /proc would be open. A link or a file in the image
        gives way to a directory."""
        (bundles.image / "elsewhere").mkdir()
        place = bundles.image / target[1:]
        if link:
            place.symlink_to(link)
        else:
            place.touch()
        output = await run(launcher, bundles.spec("sh", "-c", f"ls -ld {target}; ls /elsewhere; ls {target} | wc -l"))
        listed, count = output.stdout.splitlines()
        assert listed.startswith("d")
        assert int(count) > 3

    @pytest.mark.parametrize("target", ["/proc/self/attr", "/proc/sys", "/link/sys"])
    async def test_a_volume_inside_proc(
        self, launcher: Launcher, bundles: Bundles, tmp_path: Path, target: str
    ) -> None:
        """CVE-2019-16884: it would take what is written to the kernel's files."""
        (bundles.image / "link").symlink_to("/proc")
        with pytest.raises(StartError, match=r"inside /proc|Too many levels"):
            await launcher.start(bundles.spec("true", mounts=(Mount("bind", str(tmp_path), target),)))

    async def test_nothing_of_it_is_seen_on_the_host(
        self, launcher: Launcher, bundles: Bundles, tmp_path: Path
    ) -> None:
        """Also where the host's mounts are shared, as systemd makes them."""
        hosts = tmp_path / "hosts"
        hosts.mkdir()
        tmpfs, target = mounts.make("tmpfs", "tmpfs"), os.open(hosts, os.O_PATH)
        mounts.attach(tmpfs, target)
        mounts.change(tmpfs, propagation=mounts.MS_SHARED)
        os.close(tmpfs)
        os.close(target)
        try:
            (hosts / "sub").mkdir()
            before = Path("/proc/self/mountinfo").read_text()  # noqa: ASYNC240
            over = (Mount("bind", str(hosts), "/h", ("rbind", "rprivate")), Mount("tmpfs", "t", "/h/sub"))
            monitor = await launcher.start(bundles.spec("sleep", "1000", mounts=over))
            assert Path("/proc/self/mountinfo").read_text() == before  # noqa: ASYNC240
            monitor.kill()
            await monitor.exited
        finally:
            mounts.unmount(str(hosts))

    async def test_the_root_is_not_seen_on_the_host(self, launcher: Launcher, bundles: Bundles) -> None:
        """Also where the directory upon which it is mounted is part of a shared mount."""
        spec = bundles.spec("sleep", "1000")
        place, target = mounts.clone(spec.exec_dir), os.open(spec.exec_dir, os.O_PATH)
        mounts.attach(place, target)
        mounts.change(place, propagation=mounts.MS_SHARED)
        os.close(place)
        os.close(target)
        try:
            before = Path("/proc/self/mountinfo").read_text()  # noqa: ASYNC240
            monitor = await launcher.start(spec)
            assert Path("/proc/self/mountinfo").read_text() == before  # noqa: ASYNC240
            monitor.kill()
            await monitor.exited
        finally:
            mounts.unmount(spec.exec_dir)


class TestMasks:
    """CVE-2025-31133: what hides a path must be the null device itself."""

    SCRIPT = "cat /proc/keys /proc/timer_list | wc -c; ls -A /sys/firmware | wc -l; echo x > /proc/sys/kernel/hostname"

    async def test_masked_and_read_only_paths(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: keys, timers or firmware are read, or the host's kernel settings written."""
        output = await run(launcher, bundles.spec("sh", "-c", self.SCRIPT))
        assert output.stdout.split() == ["0", "0"]
        assert "Read-only file system" in output.stderr

    async def test_a_dev_of_the_attackers_own(self, launcher: Launcher, bundles: Bundles, tmp_path: Path) -> None:
        """A hole: what lies at /dev/null in there is mounted over the paths that are to be hidden."""
        dev = tmp_path / "dev"
        dev.mkdir()
        (dev / "null").symlink_to("/proc/sys/kernel/core_pattern")
        mounts = tuple(mount for mount in KERNEL_MOUNTS if not mount.target.startswith("/dev"))
        mounts += (Mount("bind", str(dev), "/dev", ("rbind",)),)
        spec = msgspec.structs.replace(bundles.spec("sh", "-c", self.SCRIPT + "; echo y > /proc/keys"), mounts=mounts)
        output = await run(launcher, spec)
        assert output.stdout.split() == ["0", "0"]
        assert os.listdir(dev) == ["null"]

    async def test_what_hides_is_the_container_s_own(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole is a device number of the host's /dev, whose inode would be everybody's to change."""
        script = "for path in /proc/keys /proc/timer_list /sys/firmware; do stat -c '%d %F' $path; done"
        output = await run(launcher, bundles.spec("sh", "-c", script))
        numbers, kinds = zip(*(line.split(" ", 1) for line in output.stdout.splitlines()), strict=True)
        assert kinds == ("character special file", "character special file", "directory")
        assert os.stat("/dev").st_dev not in map(int, numbers)

    async def test_masks_cannot_be_taken_away(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: umount or a remount succeeds."""
        output = await run(launcher, bundles.spec("sh", "-c", "umount /proc/keys; mount -o remount,rw /proc/sys"))
        assert output.code != 0


class TestPrivileges:
    DEFAULT = "00000000a80425fb"  # Docker's fourteen

    async def test_the_default(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole is a capability more than Docker's fourteen, or no filter."""
        output = await run(launcher, bundles.spec("cat", "/proc/self/status"))
        status = dict(re.findall(r"^(\w+):\s+(.*)$", output.stdout, re.MULTILINE))
        assert status["CapEff"] == status["CapPrm"] == status["CapBnd"] == self.DEFAULT
        assert status["CapInh"] == status["CapAmb"] == "0000000000000000"
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")

    async def test_a_user_has_none(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: somebody other than root has one without being asked."""
        output = await run(launcher, bundles.spec("cat", "/proc/self/status", user="bob"))
        status = dict(re.findall(r"^(\w+):\s+(.*)$", output.stdout, re.MULTILINE))
        assert status["CapEff"] == status["CapPrm"] == "0000000000000000"
        assert status["CapBnd"] == self.DEFAULT

    async def test_ambient_ones_when_asked_for(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole is one more than was asked for."""
        spec = bundles.spec(
            "cat", "/proc/self/status", user="bob", ambient=True, capabilities=("CAP_NET_BIND_SERVICE",)
        )
        status = dict(re.findall(r"^(\w+):\s+(.*)$", (await run(launcher, spec)).stdout, re.MULTILINE))
        assert status["CapEff"] == status["CapAmb"] == status["CapBnd"] == "0000000000000400"

    @pytest.mark.parametrize("init", [False, True])
    async def test_no_new_privileges(self, launcher: Launcher, bundles: Bundles, init: bool) -> None:
        """A hole: the program, or the init before it, is without the mark or the filter."""
        spec = bundles.spec("cat", "/proc/self/status", "/proc/1/status", no_new_privileges=True, init=init)
        output = await run(launcher, spec)
        assert re.findall(r"^NoNewPrivs:\s+(\d)", output.stdout, re.MULTILINE) == ["1", "1"]
        assert re.findall(r"^Seccomp:\s+(\d)", output.stdout, re.MULTILINE) == ["2", "2"]

    async def test_exec_has_no_more(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: exec gives what the container itself does not have."""
        monitor = await launcher.start(bundles.spec("sleep", "1000"))
        _, stream = await monitor.exec("e", bundles.process("cat", "/proc/self/status"), (False, True, True))
        assert stream is not None
        status = dict(re.findall(r"^(\w+):\s+(.*)$", split(await read_all(stream))[0].decode(), re.MULTILINE))
        assert (status["CapEff"], status["CapBnd"], status["Seccomp"]) == (self.DEFAULT, self.DEFAULT, "2")
        stream.close()
        monitor.kill()
        await monitor.exited

    @pytest.mark.parametrize(
        "attempt", ["mount -t tmpfs t /mnt", "unshare -m true", "unshare -U true", "nsenter -t 1 -n true", "hostname x"]
    )
    async def test_what_is_refused(self, launcher: Launcher, bundles: Bundles, attempt: str) -> None:
        """A hole: it succeeds."""
        (bundles.image / "mnt").mkdir()
        output = await run(launcher, bundles.spec("sh", "-c", attempt))
        assert output.code != 0
        assert re.search("permission denied|not permitted", output.stderr, re.IGNORECASE), output.stderr

    async def test_no_new_devices(self, launcher: Launcher, bundles: Bundles) -> None:
        """Making a node is allowed by CAP_MKNOD; using one of a disk is not, by the cgroup."""
        disk = next(
            os.stat(f"/dev/{name}").st_rdev
            for name in os.listdir("/dev")
            if stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode)
        )
        script = (
            f"mknod /disk b {os.major(disk)} {os.minor(disk)} && head -c 1 /disk; mknod /kmsg c 1 11 && head -c 1 /kmsg"
        )
        output = await run(launcher, bundles.spec("sh", "-c", script))
        assert output.stdout == ""
        assert output.stderr.count("Operation not permitted") == 2

    async def test_signals_reach_nobody_outside(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: a process outside of the container is ended."""
        other = await launcher.start(bundles.spec("sleep", "1000"))
        output = await run(launcher, bundles.spec("sh", "-c", "kill -9 -1; kill -9 1; echo still here"))
        assert output.stdout == "still here\n"
        assert not other.exited.done()
        other.kill()
        await other.exited

    async def test_an_init_has_nothing_of_the_hosts(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: memory, mappings or an executable of the host's, in a process that a container may trace."""
        script = "cat /proc/1/comm /proc/1/maps; echo $(tr '\\0' ' ' </proc/1/cmdline); tr '\\0' '\\n' </proc/1/environ"
        output = await run(launcher, bundles.spec("sh", "-c", script, init=True))
        name, *mappings, command = [line for line in output.stdout.splitlines() if "=" not in line]
        assert name == "wherry-init" and command.startswith("wherry-init -- sh -c cat")
        mapped = {line.split(None, 5)[5] for line in mappings if len(line.split(None, 5)) == 6}
        assert {each for each in mapped if each[0] == "/"} == {"/memfd:wherry-init (deleted)"}
        environment = {line.split("=")[0] for line in output.stdout.splitlines() if line.partition("=")[0].isupper()}
        assert environment == {"PATH", "HOME"}

    async def test_the_inits_program_is_the_containers_own(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: what root in one container writes to or changes of it, another container has."""
        script = "echo x >/proc/1/exe; chmod 700 /proc/1/exe && stat -Lc %a /proc/1/exe"
        output = await run(launcher, bundles.spec("sh", "-c", script, init=True))
        assert output.stdout == "700\n" and "can't create" in output.stderr
        output = await run(launcher, bundles.spec("stat", "-Lc", "%a", "/proc/1/exe", init=True))
        assert output.stdout == "555\n"


class TestTerminals:
    """CVE-2025-52565: /dev/console, mounted over something else."""

    async def test_a_console_that_is_a_link(self, launcher: Launcher, bundles: Bundles, tmp_path: Path) -> None:
        """A hole: the terminal is mounted over what the link names, /etc/passwd here."""
        dev = tmp_path / "dev"
        (dev / "pts").mkdir(parents=True)
        (dev / "console").symlink_to("/etc/passwd")
        mounts = tuple(mount for mount in KERNEL_MOUNTS if mount.target not in ("/dev", "/dev/mqueue", "/dev/shm"))
        mounts = (Mount("bind", str(dev), "/dev", ("rbind",)), *mounts)
        spec = msgspec.structs.replace(bundles.spec("cat", "/etc/passwd", tty=True), mounts=mounts)
        assert "bob:x:1000" in (await run(launcher, spec)).stdout

    @pytest.mark.parametrize("link", ["/../../../../tmp", "elsewhere", "/proc/1/root/tmp", ""])
    async def test_a_dev_that_leads_outside(self, launcher: Launcher, bundles: Bundles, link: str) -> None:
        """A hole: the terminal's devices are made where the link leads to. Such an image gets a terminal."""
        (bundles.image / "elsewhere").mkdir()
        place = bundles.image / "dev"
        if link:
            place.symlink_to(link)
        else:
            place.touch()
        before = set(os.listdir("/tmp"))
        output = await run(launcher, bundles.spec("sh", "-c", "ls -ld /dev; tty; ls -l /dev/console", tty=True))
        directory, terminal, console = output.stdout.splitlines()
        assert directory.startswith("d")
        assert terminal.startswith("/dev/pts/")
        assert console.startswith("c")
        assert not {"pts", "ptmx", "console", "null"} & (set(os.listdir("/tmp")) - before)
        assert not os.listdir(bundles.image / "elsewhere")

    async def test_a_multiplexer_that_is_none(self, launcher: Launcher, bundles: Bundles, tmp_path: Path) -> None:
        """A hole: it is opened, and does what that device or fifo does."""
        dev = tmp_path / "dev"
        (dev / "pts").mkdir(parents=True)
        for make in (
            lambda path: path.symlink_to("/dev/zero"),
            lambda path: os.mkfifo(path),
            lambda path: path.touch(),
            lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(5, 2)),
        ):
            make(dev / "pts/ptmx")
            mounts = (KERNEL_MOUNTS[0], Mount("bind", str(dev), "/dev", ("rbind",)))
            spec = msgspec.structs.replace(bundles.spec("true", tty=True), mounts=mounts)
            with pytest.raises(StartError):
                await asyncio.wait_for(launcher.start(spec), 20)
            (dev / "pts/ptmx").unlink()

    async def test_a_multiplexer_beside_another_devpts(
        self, launcher: Launcher, bundles: Bundles, tmp_path: Path
    ) -> None:
        """A hole: the kernel takes the devpts that lies beside the device, and the terminal is made on that, which may
        be the host's."""
        (tmp_path / "pts/pts").mkdir(parents=True)
        os.mknod(tmp_path / "pts/ptmx", stat.S_IFCHR | 0o666, os.makedev(5, 2))
        other = Mount("devpts", "devpts", "/dev/pts/pts", ("newinstance", "ptmxmode=0666", "mode=0620"))
        mounts = (KERNEL_MOUNTS[0], Mount("bind", str(tmp_path), "/dev", ("rbind",)), other)
        spec = msgspec.structs.replace(bundles.spec("true", tty=True), mounts=mounts)
        with pytest.raises(StartError, match="is not a terminal multiplexer"):
            await asyncio.wait_for(launcher.start(spec), 20)


class TestFilesOfTheImage:
    """The image's own files must neither hang the start nor fill the memory."""

    @pytest.mark.parametrize("name", ["passwd", "group"])
    @pytest.mark.parametrize("kind", ["fifo", "huge", "device", "loop"])
    async def test_strange_user_files(self, launcher: Launcher, bundles: Bundles, name: str, kind: str) -> None:
        """A hole: the start waits for ever, takes a gigabyte, or reads a device."""
        path = bundles.image / "etc" / name
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "huge":
            path.touch()
            os.truncate(path, 1 << 40)
        elif kind == "device":
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        else:
            path.symlink_to(name)
        try:
            async with asyncio.timeout(20):
                await run(launcher, bundles.spec("true"))
        except StartError as error:
            assert "too large" in error.message
        with pytest.raises(StartError, match=r"unable to find|too large"):
            async with asyncio.timeout(20):
                await launcher.start(bundles.spec("true", user="bob:adm"))

    async def test_a_user_file_that_changes_while_exec_reads_it(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: exec hangs on what took the file's place after it was looked at."""
        script = """
        cp=/etc/passwd; cat $cp > /tmp.real
        echo ready
        while true; do rm -f $cp; mkfifo $cp; rm -f $cp; cat /tmp.real > $cp; done
        """
        monitor, stream = await start_attached(launcher, bundles.spec("sh", "-c", script))
        await read_until(stream, b"ready")
        for number in range(20):
            try:
                async with asyncio.timeout(20):
                    started, _ = await monitor.exec(f"e{number}", bundles.process("true", user="bob"))
                    await started.exited
            except StartError as error:
                assert "unable to find user bob" in error.message
        monitor.kill()
        await monitor.exited
        stream.close()

    async def test_a_user_file_that_is_no_file_is_not_opened(self, launcher: Launcher, bundles: Bundles) -> None:
        """A hole: opening a device does something, and a fifo's other end learns of it, or says who bob is."""
        script = (
            "rm /etc/passwd; mkfifo /etc/passwd; echo ready; echo bob:x:0:0::/: >/etc/passwd; echo opened; sleep 99"
        )
        monitor, stream = await start_attached(launcher, bundles.spec("sh", "-c", script))
        await read_until(stream, b"ready")
        for number in range(5):
            with pytest.raises(StartError, match="unable to find user bob"):
                await monitor.exec(f"e{number}", bundles.process("true", user="bob"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await read_until(stream, b"opened")
        monitor.kill()
        await monitor.exited
        stream.close()

    def test_nothing_is_imported_once_inside(self, tmp_path: Path) -> None:
        """CVE-2019-14271: code from the container's files in a process with the host's privileges."""
        (tmp_path / "colorsys.py").write_text("print('evil')")
        program = (
            "from wherry.runtime import execute\n"
            "execute.stop_importing()\n"
            "for name in ('colorsys', 'xml.dom', 'encodings.rot_13', 'encodings.idna'):\n"
            "    try: __import__(name)\n"
            "    except ImportError: continue\n"
            "    print('imported', name)\n"
            "'x'.encode('utf-8', 'surrogateescape')\n"
            "try: 'x'.encode('cp037')\n"
            "except LookupError: print('none')\n"
        )
        environment = {"PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
        shown = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=True,
        )
        assert shown.stdout == b"none\n"


async def test_what_a_killed_monitor_leaves_is_ended(launcher: Launcher, bundles: Bundles) -> None:
    """Even a container that has left its process group and ignores every signal."""
    spec = bundles.spec("sh", "-c", "trap '' HUP INT TERM; sleep 1000 & sleep 1000 & echo ready; sleep 1000")
    monitor, stream = await start_attached(launcher, spec)
    await read_until(stream, b"ready")
    os.kill(monitor.monitor_pid, signal.SIGKILL)
    await monitor.exited
    assert not Hierarchies.detect().open(spec.cgroup).exists()
    stream.close()
