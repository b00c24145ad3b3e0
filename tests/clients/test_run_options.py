"""What ``run`` can be told about the process: its environment, user, directory, names and limits."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Cli
from tests.support.builds import Builder


def test_environment(cli: Cli, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# a comment\nFROM_FILE=file\nPASSED\nA=overridden\n")
    output = cli.ok(
        "run", "--rm", "--env-file", str(tmp_path / "env"), "-e", "A=1=2", "-e", "TAKEN", "-e", "ABSENT",
        "-e", "EMPTY=", busybox, "env", env={"TAKEN": "from here", "PASSED": "too"},
    )  # fmt: skip
    lines = dict(line.split("=", 1) for line in output.split("\n"))
    hostname = lines.pop("HOSTNAME")
    assert len(hostname) == 12
    assert lines == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "FROM_FILE": "file",
        "PASSED": "too",
        "A": "1=2",
        "TAKEN": "from here",
        "EMPTY": "",
    }


def test_a_terminal_is_told_in_the_environment(cli: Cli, busybox: str) -> None:
    assert cli.ok("run", "--rm", "-t", busybox, "sh", "-c", "echo $TERM") == "xterm"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], "uid=0(root) gid=0(root) groups=0(root)"),
        (["-u", "1000"], "uid=1000 gid=0(root) groups=0(root)"),
        (["-u", "1000:50"], "uid=1000 gid=50(staff) groups=50(staff)"),
        (["-u", "daemon"], "uid=1(daemon) gid=1(daemon) groups=1(daemon)"),
        (["-u", "daemon:www-data"], "uid=1(daemon) gid=33(www-data) groups=33(www-data)"),
        (["-u", "daemon", "--group-add", "www-data", "--group-add", "777"],
         "uid=1(daemon) gid=1(daemon) groups=1(daemon),33(www-data),777"),
    ],
)  # fmt: skip
def test_users_and_groups(cli: Cli, debian: str, options: list[str], shown: str) -> None:
    assert cli.ok("run", "--rm", *options, debian, "id") == shown


def test_a_user_that_does_not_exist(cli: Cli, busybox: str) -> None:
    said = cli.fails("run", "--rm", "-u", "nosuchuser", busybox, "id", code=125)
    assert "daemon: unable to find user nosuchuser: no matching entries in passwd file\n" in said
    said = cli.fails("run", "--rm", "-u", "root:nosuchgroup", busybox, "id", code=125)
    assert "daemon: unable to find group nosuchgroup: no matching entries in group file\n" in said


def test_home_is_the_users(cli: Cli, debian: str) -> None:
    assert cli.ok("run", "--rm", "-u", "www-data", debian, "sh", "-c", "echo $HOME") == "/var/www"
    assert cli.ok("run", "--rm", "-u", "4321", debian, "sh", "-c", "echo $HOME") == "/"


def test_working_directory(cli: Cli, busybox: str) -> None:
    assert cli.ok("run", "--rm", "-w", "/made/for/it", busybox, "pwd") == "/made/for/it"
    said = cli.fails("run", "--rm", "-w", "relative", busybox, "pwd", code=125)
    assert "the working directory 'relative' is invalid, it needs to be an absolute path" in said


def test_a_working_directory_is_made_with_the_container(cli: Cli, busybox: str, tmp_path: Path) -> None:
    """By root and for root, whoever the container runs as; what Docker 26 shows of it."""
    (tmp_path / "file").write_text("copied")
    cli.ok("create", "--name", "box", "-u", "1000", "-w", "/tmp/app/b", busybox, "ls", "-lnd", "/tmp/app", "/tmp/app/b")
    cli.ok("cp", str(tmp_path / "file"), "box:/tmp/app/")
    cli.ok("cp", str(tmp_path / "file"), "box:/tmp/app/b")
    changes = ["C /tmp", "A /tmp/app", "A /tmp/app/b", "A /tmp/app/b/file", "A /tmp/app/file"]
    assert cli.ok("diff", "box").split("\n") == changes
    for line in cli.ok("start", "-a", "box").split("\n"):
        assert re.match(r"drwxr-xr-x +\d 0 +0 ", line)


def test_a_working_directory_that_is_there(cli: Cli, busybox: str) -> None:
    cli.ok("create", "--name", "box", "-w", "/tmp", busybox, "pwd")
    assert cli.ok("diff", "box") == ""


def test_a_working_directory_behind_a_link(cli: Cli, build: Builder) -> None:
    build("FROM busybox\nRUN ln -s /tmp /link; ln -s ../nowhere /dangling; ln -s /self /self")
    for asked, made, shown in (
        ("/link/x", "C /tmp\nA /tmp/x", "/tmp/x"),
        ("/dangling/y", "A /nowhere\nA /nowhere/y", "/nowhere/y"),
    ):
        cli.ok("create", "--name", "box", "-w", asked, "built", "pwd")
        assert cli.ok("diff", "box") == made
        assert cli.ok("start", "-a", "box") == shown
        cli.ok("rm", "box")
    assert "too many " in cli.fails("create", "-w", "/self/x", "built", "pwd")


def test_the_image_s_working_directory_is_there_from_the_start(cli: Cli, build: Builder, tmp_path: Path) -> None:
    build("FROM busybox\nWORKDIR /app\nRUN rmdir /app")
    (tmp_path / "file").write_text("copied")
    cli.ok("create", "--name", "box", "built", "cat", "/app/file")
    cli.ok("cp", str(tmp_path / "file"), "box:/app/")
    assert cli.ok("start", "-a", "box") == "copied"


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/passwd/x"])
def test_a_working_directory_that_is_a_file(cli: Cli, busybox: str, path: str) -> None:
    assert "not a directory" in cli.fails("create", "--name", "box", "-w", path, busybox, "pwd")
    assert cli.ok("ps", "-aq") == ""


@pytest.mark.parametrize(("asked", "kept"), [("/tmp/", "/tmp"), ("/a/../b//c/.", "/b/c"), ("//", "/")])
def test_a_working_directory_s_shortest_name(cli: Cli, busybox: str, asked: str, kept: str) -> None:
    cli.ok("create", "--name", "box", "-w", asked, busybox, "pwd")
    assert cli.inspect("box", "{{.Config.WorkingDir}}") == kept
    assert cli.ok("start", "-a", "box") == kept


def test_a_working_directory_in_a_volume(cli: Cli, busybox: str) -> None:
    output = cli.ok("run", "--rm", "-v", "/app", "-u", "1000", "-w", "/app/x", busybox, "ls", "-lnd", "/app/x")
    assert re.match(r"drwxr-xr-x +2 0 +0 ", output)


@pytest.mark.parametrize("command", [[""], ["", "a"]])
def test_a_command_without_a_name(cli: Cli, busybox: str, docker_client: Any, command: list[str]) -> None:
    """It can be made and not started, as with Docker 26."""
    container = docker_client.api.create_container(busybox, command, name="box")
    assert cli.inspect("box", "{{json .Config.Cmd}} {{json .Path}} {{json .Args}}") == (
        f'{json.dumps(command, separators=(",", ":"))} "" {json.dumps(command[1:])}'
    )
    assert 'exec: "": executable file not found in $PATH' in cli.fails("start", container["Id"])
    assert cli.inspect("box", "{{.State.ExitCode}}") == "127"


def test_a_stop_signal_that_no_kernel_has(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "box", "--stop-signal", "65", busybox, "sleep", "1000")
    assert cli.inspect("box", "{{.Config.StopSignal}}") == "65"
    said = cli.fails("kill", "-s", "65", "box")
    assert "cannot kill container: box: the linux daemon does not support signal 65" in said
    cli.ok("stop", "box")
    assert cli.inspect("box", "{{.State.ExitCode}}") == "137"


@pytest.mark.parametrize("name", ["0", "nope", "RTMIN+16", "RTMAX-15", "-1"])
def test_what_is_no_signal(cli: Cli, busybox: str, sleeper: str, name: str) -> None:
    assert f"invalid signal: {name}" in cli.fails("create", f"--stop-signal={name}", busybox, "true")
    assert f"cannot kill container: sleeper: invalid signal: {name}" in cli.fails("kill", f"--signal={name}", sleeper)
    assert f"cannot stop container: sleeper: invalid signal: {name}" in cli.fails("stop", f"--signal={name}", sleeper)


def test_host_and_domain_name(cli: Cli, busybox: str) -> None:
    line = "hostname; cat /etc/hostname; grep -c here /etc/hosts; cat /proc/sys/kernel/domainname"
    output = cli.ok("run", "--rm", "-h", "here", "--domainname", "example.org", busybox, "sh", "-c", line)
    assert output.split("\n")[0] == "here"
    assert output.split("\n")[-1] == "example.org"
    assert (
        cli.ok("run", "--rm", "--uts", "host", busybox, "hostname")
        == Path("/proc/sys/kernel/hostname").read_text().strip()
    )


def test_entrypoint(cli: Cli, busybox: str) -> None:
    assert cli.ok("run", "--rm", "--entrypoint", "echo", busybox, "a", "b") == "a b"
    assert cli.ok("run", "--rm", "--entrypoint", "", busybox, "echo", "c") == "c"


def test_labels(cli: Cli, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("from.file=1\n")
    cli.ok("run", "--name", "box", "-l", "a=b", "-l", "bare", "--label-file", str(tmp_path / "labels"), busybox, "true")
    assert cli.inspect("box", "{{json .Config.Labels}}") == '{"a":"b","bare":"","from.file":"1"}'


def test_an_init_reaps_and_passes_signals(cli: Cli, busybox: str) -> None:
    assert cli.ok("run", "--rm", "--init", busybox, "sh", "-c", "echo $$") != "1"
    cli.ok("run", "-d", "--init", "--name", "box", busybox, "sleep", "1000")
    cli.ok("stop", "-t", "20", "box")
    assert cli.inspect("box", "{{.State.ExitCode}}") == "143"


def test_an_init_has_a_name_and_a_program_of_its_own(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--init", "--name", "box", busybox, "sleep", "1000")
    shown = cli.ok("top", "box", "-o", "pid,args").splitlines()[1:]
    assert [line.split(None, 1)[1] for line in shown] == ["wherry-init -- sleep 1000", "sleep 1000"]
    look = "readlink /proc/1/exe; cat /proc/1/comm; ls -d /proc/1/root/etc; grep -c PATH= /proc/1/environ"
    seen = "/memfd:wherry-init (deleted)\nwherry-init\n/proc/1/root/etc\n1"
    assert cli.ok("exec", "box", "sh", "-c", look) == seen
    assert cli.ok("run", "--rm", "--pid", "container:box", busybox, "sh", "-c", look) == seen


def test_a_read_only_root(cli: Cli, busybox: str) -> None:
    finished = cli("run", "--rm", "--read-only", busybox, "touch", "/file")
    assert (finished.returncode, finished.stderr) == (1, "touch: /file: Read-only file system\n")
    line = "touch /tmp/file /dev/shm/file && grep ' /tmp ' /proc/mounts"
    mounted = cli.ok("run", "--rm", "--read-only", "--tmpfs", "/tmp:size=1m,mode=1777", busybox, "sh", "-c", line)
    assert mounted.split()[2] == "tmpfs"
    assert "size=1024k" in mounted and "noexec" in mounted


def test_shared_memory(cli: Cli, busybox: str) -> None:
    line = ("sh", "-c", "df -k /dev/shm | tail -1 | awk '{print $2}'")
    assert cli.ok("run", "--rm", busybox, *line) == "65536"
    assert cli.ok("run", "--rm", "--shm-size", "1m", busybox, *line) == "1024"


def test_ulimits(cli: Cli, busybox: str) -> None:
    output = cli.ok("run", "--rm", "--ulimit", "nofile=100:200", "--ulimit", "core=0", busybox,
                    "sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c")  # fmt: skip
    assert output == "100\n200\n0"


def test_sysctls(cli: Cli, busybox: str) -> None:
    options = ("--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=4096")
    line = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"
    assert cli.ok("run", "--rm", *options, busybox, "sh", "-c", line) == "1\n4096"


def test_oom_score_and_annotations(cli: Cli, busybox: str) -> None:
    assert cli.ok("run", "--rm", "--oom-score-adj", "500", busybox, "cat", "/proc/self/oom_score_adj") == "500"


def test_an_oom_score_that_takes_a_privilege(cli: Cli, busybox: str) -> None:
    """Docker 26 does not start it either, where it lacks CAP_SYS_RESOURCE."""
    finished = cli("run", "--rm", "--oom-score-adj", "-500", busybox, "cat", "/proc/self/oom_score_adj")
    if _may_lower_oom_score():
        assert finished.stdout == "-500\n"
    else:
        assert finished.returncode == 125
        assert "the OOM score adjustment -500 needs CAP_SYS_RESOURCE" in finished.stderr


def _may_lower_oom_score() -> bool:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    return bool(int(line.split()[1], 16) >> 24 & 1)


def test_gpus_are_missed_at_the_start(cli: Cli, busybox: str) -> None:
    """Not before, as in Docker 26: what was made on another machine can be looked at on this one."""
    cli.ok("create", "--name", "box", "--gpus", "all", busybox, "true")
    text = 'could not select device driver "" with capabilities: [[gpu]]'
    assert text in cli.fails("start", "box")
    assert cli.inspect("box", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}") == f"created 128 {text}"


def test_extra_hosts(cli: Cli, busybox: str) -> None:
    output = cli.ok("run", "--rm", "--add-host", "db:10.1.2.3", "--add-host", "six:::1", busybox, "cat", "/etc/hosts")
    assert "10.1.2.3\tdb" in output
    assert "::1\tsix" in output


def test_name_servers(cli: Cli, busybox: str) -> None:
    output = cli.ok("run", "--rm", "--network", "none", "--dns", "10.1.2.3", "--dns-search", "example.org",
                    "--dns-option", "ndots:3", busybox, "cat", "/etc/resolv.conf")  # fmt: skip
    assert [line for line in output.split("\n") if not line.startswith("#") and line] == [
        "nameserver 10.1.2.3", "search example.org", "options ndots:3",
    ]  # fmt: skip


def test_stop_signal_and_timeout_are_kept(cli: Cli, busybox: str) -> None:
    cli.ok("create", "--name", "box", "--stop-signal", "USR1", "--stop-timeout", "3", busybox, "true")
    assert cli.inspect("box", "{{.Config.StopSignal}} {{.Config.StopTimeout}}") == "USR1 3"
