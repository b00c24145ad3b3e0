"""What ``run`` can be told about the process: its environment, user, directory, names and limits."""

from pathlib import Path

import pytest

from tests.clients.conftest import Cli


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
