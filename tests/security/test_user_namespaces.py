"""Attacks from a container in a user namespace: to be root outside, or to be somebody else there."""

import io
import os
import stat
import struct
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import CACHE, Engine, started
from tests.support.subordinate_ids import FIRST, with_ids

ALICE = 3_000_000
IDS = f"alice:{ALICE}:65536\nwherry:{ALICE}:65536\nwherry:{FIRST}:1048576\nwherry:0:1000\n"


@pytest.fixture(scope="module")
def _remapping(_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """wherry is given ids of its own, but also those of alice, and the machine's."""
    with started(Engine(prefix=with_ids(tmp_path_factory.mktemp("ids"), IDS))) as engine:
        yield engine


@pytest.fixture
def apart(_remapping: Engine) -> Iterator[Engine]:
    _remapping.begin_log()
    yield _remapping
    _remapping.check_log()
    _remapping.remove_containers()


def run(engine: Engine, script: str, *flags: str) -> str:
    command = ("run", "--rm", "--userns=auto", "--network=none", *flags, "busybox", "sh", "-c", script)
    ended = engine.wherry(*command)
    return ended.stdout + ended.stderr


def pid_of(engine: Engine, name: str) -> int:
    return int(engine.wherry("inspect", "--format", "{{.State.Pid}}", name).stdout)


_CHANGE = """
files=$(find /proc -maxdepth 1 -type f; find /proc/sys /proc/irq /proc/bus /proc/fs -type f 2>/dev/null)
for each in $files; do
    ( : >>$each ) 2>/dev/null && echo "written: $each"
    %s
done | wc -l
"""
_FACTS = "chmod 777 $each 2>/dev/null || chown 1 $each 2>/dev/null || touch $each 2>/dev/null && echo changed"


def test_no_file_of_proc_is_changed(apart: Engine) -> None:
    """They are the machine's root's, also where no mount makes them read-only; who is that root opens many."""
    assert run(apart, _CHANGE % _FACTS) == "0\n"
    opened = apart.wherry(
        "run", "--rm", "--privileged", "--network=none", "busybox", "sh", "-c", _CHANGE % "", check=True
    )
    assert int(opened.stdout) > 100


class TestIds:
    def test_no_container_has_ids_of_another_user_or_of_the_machine(self, apart: Engine) -> None:
        """/etc/subuid gives the same ids to two, and to wherry the machine's own."""
        for name in ("one", "two"):
            apart.wherry("run", "-d", "--name", name, "--userns=auto", "busybox", "sleep", "1000")
        firsts = []
        for name in ("one", "two"):
            for kind in ("uid", "gid"):
                inside, outside, length = map(int, Path(f"/proc/{pid_of(apart, name)}/{kind}_map").read_text().split())
                assert (inside, length) == (0, 65536)
                assert outside >= FIRST
            firsts.append(outside)
        assert abs(firsts[0] - firsts[1]) >= 65536

    def test_no_process_of_a_container_has_an_id_of_the_machines(self, apart: Engine) -> None:
        """The first, the reaper, and those of exec: one that were the machine's root could be made use of."""
        apart.wherry("run", "-d", "--name", "one", "--userns=auto", "--init", "busybox", "sleep", "1000")
        apart.wherry("exec", "-d", "one", "sleep", "1000")
        apart.wherry("exec", "-d", "-u", "1000", "one", "sleep", "1000")
        cgroups = Path(f"/proc/{pid_of(apart, 'one')}/cgroup").read_text()
        found = [p for p in Path("/proc").glob("[0-9]*") if (p / "cgroup").exists() and _cgroup(p) == cgroups]
        assert len(found) >= 3
        for process in found:
            lines = (process / "status").read_text().splitlines()
            ids = [line.split()[1:] for line in lines if line.startswith(("Uid:", "Gid:", "Groups:"))]
            assert all(int(number) >= FIRST for numbers in ids for number in numbers), ids

    def test_maps_cannot_be_written_again(self, apart: Engine) -> None:
        """The machine's root would be mapped."""
        said = run(apart, "echo 0 0 1 >/proc/self/uid_map; echo 0 0 1 >/proc/1/gid_map; cat /proc/self/uid_map")
        assert said.count("write error") == 2
        assert str(FIRST) in said

    def test_a_namespace_within_reaches_no_further(self, apart: Engine) -> None:
        """Root of a nested user namespace maps what is mapped already, and nothing else."""
        flags = ("--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined")
        script = "unshare -U sh -c 'sleep 3' & sleep 0.5; for id in 0 65535 65536 100000; do "
        script += 'echo "0 $id 1" >/proc/$!/uid_map && echo mapped $id; done; exit 0'
        said = run(apart, script, *flags)
        assert "mapped 65536" not in said
        assert "mapped 100000" not in said

    def test_the_engines_protection_from_the_oom_killer_is_not_inherited(self, apart: Engine) -> None:
        """The monitor's score is low; its child's could be set as low again."""
        said = run(apart, "echo -1 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj")
        assert "0" in said.splitlines()
        assert "Permission denied" in said


class TestFiles:
    def test_a_setuid_file_in_a_volume_is_out_of_reach(self, apart: Engine) -> None:
        """On the disk it is root's; nobody but root gets there."""
        run(apart, "cp /bin/busybox /v/su; chmod 4755 /v/su", "-v", "attack:/v")
        path = apart.data_root / "volumes" / "attack" / "_data" / "su"
        assert path.stat().st_mode & stat.S_ISUID
        assert any(not parent.stat().st_mode & stat.S_IXOTH for parent in (path.parents[1], path.parents[2]))
        assert not _reaches(path)
        apart.wherry("volume", "rm", "attack")

    def test_a_setuid_file_in_the_writable_layer_is_out_of_reach(self, apart: Engine) -> None:
        """On the disk it is root's; nobody but root gets there."""
        script = "cp /bin/busybox /su; chmod 4755 /su"
        apart.wherry("run", "--name", "one", "--userns=auto", "busybox", "sh", "-c", script)
        found = list((apart.data_root / "containers").glob("*/diff/su"))
        assert len(found) == 1
        assert not _reaches(found[0])

    def test_a_setuid_file_in_a_bind_is_not_roots(self, apart: Engine, tmp_path: Path) -> None:
        """It is of who made it, and that is nobody on the machine."""
        tmp_path.chmod(0o777)
        run(apart, "cp /bin/busybox /d/su; chmod 4755 /d/su", "-v", f"{tmp_path}:/d")
        assert (tmp_path / "su").stat().st_uid >= FIRST

    @pytest.mark.parametrize("how", ["volume", "idmap", "idmap=uids=0-@0-1"])
    def test_no_mount_gives_files_of_the_machines_root(self, apart: Engine, tmp_path: Path, how: str) -> None:
        """A volume that is a folder of the machine's, and a bind with other owners."""
        tmp_path.chmod(0o755)
        if how == "volume":
            options = ("--opt", "type=none", "--opt", "o=bind", "--opt", f"device={tmp_path}")
            apart.wherry("volume", "create", *options, "elsewhere", check=True)
            flags = ("-v", "elsewhere:/d")
        else:
            flags = ("--mount", f"type=bind,src={tmp_path},dst=/d,{how}")
        run(apart, "cp /bin/busybox /d/su; chmod 4755 /d/su", *flags)
        assert not (tmp_path / "su").exists()
        apart.wherry("volume", "rm", "-f", "elsewhere")

    def test_file_capabilities_of_a_shared_layer_hold_inside_alone(self, apart: Engine) -> None:
        """A program that may set the clock, in an image: in a user namespace it may not, whatever it is allowed."""
        with tarfile.open(CACHE / "busybox.tar") as image:
            program = next(member for member in image if member.isreg() and member.name.endswith("bin/busybox"))
            content = image.extractfile(program).read()  # type: ignore[union-attr]
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            facts = tarfile.TarInfo("date")
            facts.size, facts.mode = len(content), 0o755
            capability = struct.pack("<5I", 0x02000001, 1 << 25, 0, 0, 0)  # CAP_SYS_TIME, permitted and effective
            facts.pax_headers = {"SCHILY.xattr.security.capability": capability.decode()}
            tar.addfile(facts, io.BytesIO(content))
        assert apart.request("POST", "/images/create?fromSrc=-&repo=clock", archive.getvalue()).status == 200
        kept = next((apart.data_root / "layers").glob("*/diff/date"))
        assert os.getxattr(kept, "security.capability") == capability
        flags = ("--rm", "--network=none", "--cap-add=SYS_TIME", "--security-opt", "seccomp=unconfined", "--user=1000")
        refused = apart.wherry("run", *flags, "--userns=auto", "clock", "/date", "-s", "1999-01-01")
        assert "Operation not permitted" in refused.stderr
        assert time.localtime().tm_year > 1999

    def test_a_shared_layer_is_not_changed(self, apart: Engine) -> None:
        """Owner, mode and content of a file that all containers of an image have."""
        before = {path: path.stat() for path in (apart.data_root / "layers").glob("*/diff/bin/busybox")}
        run(apart, "chown 1:1 /bin/busybox; chmod 4777 /bin/busybox; echo x >/bin/busybox")
        assert before
        for path, facts in before.items():
            now = path.stat()
            assert (now.st_uid, now.st_mode, now.st_size) == (facts.st_uid, facts.st_mode, facts.st_size)

    def test_a_device_node_cannot_be_made(self, apart: Engine) -> None:
        """One of a disk would be the whole machine's files."""
        said = run(apart, "mknod /n c 1 3; mknod /dev/n b 8 0; mknod /dev/shm/n c 1 3; ls /n /dev/n /dev/shm/n")
        assert said.count("Operation not permitted") == 3

    def test_the_machines_files_under_proc_and_sys_are_nobodys(self, apart: Engine) -> None:
        """A mode that is changed in there is changed in every /proc."""
        script = "chmod 777 /proc/uptime; chmod 777 /proc/sys/kernel/hostname; chmod 777 /sys/class; echo ended"
        mode = Path("/proc/uptime").stat().st_mode
        assert "ended" in run(apart, script, "--security-opt", "systempaths=unconfined").splitlines()
        assert Path("/proc/uptime").stat().st_mode == mode


class TestTheMachinesSettings:
    @pytest.mark.parametrize(
        "name",
        ["kernel/core_pattern", "kernel/hostname", "vm/overcommit_memory", "fs/protected_hardlinks"],
    )
    def test_no_sysctl_of_the_machine_is_written(self, apart: Engine, name: str) -> None:
        """With all capabilities in its namespace, and nothing in /proc read-only."""
        before = Path(f"/proc/sys/{name}").read_text()
        flags = ("--cap-add=ALL", "--security-opt", "systempaths=unconfined", "--security-opt", "seccomp=unconfined")
        run(apart, f"echo 77 >/proc/sys/{name}", *flags)
        assert Path(f"/proc/sys/{name}").read_text() == before

    def test_net_admin_is_of_the_containers_network_alone(self, apart: Engine) -> None:
        """Its own settings it may change, those of the machine's network stay."""
        before = Path("/proc/sys/net/ipv4/ip_forward").read_text(), Path("/proc/sys/net/core/optmem_max").read_text()
        flags = ("--cap-add=ALL", "--security-opt", "systempaths=unconfined")
        script = "for i in 0 1; do echo $i >/proc/sys/net/ipv4/ip_forward; cat /proc/sys/net/ipv4/ip_forward; done; "
        assert run(apart, f"{script} echo 1 >/proc/sys/net/core/optmem_max", *flags).splitlines()[:2] == ["0", "1"]
        after = Path("/proc/sys/net/ipv4/ip_forward").read_text(), Path("/proc/sys/net/core/optmem_max").read_text()
        assert after == before

    def test_the_machines_networks_are_not_to_be_had(self, apart: Engine) -> None:
        """Nor its processes, nor everything: not with a user namespace."""
        for flags in (["--network=host"], ["--pid=host"], ["--privileged"]):
            ended = apart.wherry("run", "--rm", "--userns=auto", *flags, "busybox", "true")
            assert ended.returncode == 125
            assert "user namespace" in ended.stderr


def _cgroup(process: Path) -> str:
    try:
        return (process / "cgroup").read_text()
    except OSError:
        return ""


def _reaches(path: Path) -> bool:
    """Whether an ordinary user of the machine gets at a file."""
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        os._exit(int(os.access(path, os.X_OK)))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
