"""``exec``: one more process in a container that runs."""

import pytest

from tests.clients.conftest import Cli


def test_output_errors_and_exit_code(cli: Cli, sleeper: str) -> None:
    finished = cli("exec", sleeper, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (finished.stdout, finished.stderr, finished.returncode) == ("out\n", "err\n", 3)
    assert cli("exec", sleeper, "sh", "-c", "kill -9 $$").returncode == 137


def test_it_is_in_the_containers_namespaces(cli: Cli, sleeper: str) -> None:
    line = "for n in mnt pid net ipc uts; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done"
    output = cli.ok("exec", sleeper, "sh", "-c", line).split("\n")
    assert output[::2] == output[1::2]


def test_input(cli: Cli, sleeper: str) -> None:
    assert cli.ok("exec", "-i", sleeper, "wc", "-c", input="x" * 200_000) == "200000"
    assert cli.ok("exec", sleeper, "cat", input="not heard") == ""


def test_environment_user_and_directory(cli: Cli, debian: str) -> None:
    cli.ok(
        "run", "-d", "--name", "host", "-e", "A=1", "-e", "B=2", "-u", "daemon", "-w", "/usr", debian, "sleep", "1000"
    )
    line = ("sh", "-c", "echo $A $B $C; id -un; pwd")
    assert cli.ok("exec", "host", *line) == "1 2\ndaemon\n/usr"
    output = cli.ok("exec", "-e", "B=b", "-e", "C=c", "-u", "www-data", "-w", "/etc", "host", *line)
    assert output == "1 b c\nwww-data\n/etc"


def test_an_environment_file(cli: Cli, sleeper: str, tmp_path: object) -> None:
    file = f"{tmp_path}/env"
    with open(file, "w", encoding="ascii") as opened:
        opened.write("FROM=file\n")
    assert cli.ok("exec", "--env-file", file, sleeper, "sh", "-c", "echo $FROM") == "file"


def test_detached(cli: Cli, sleeper: str) -> None:
    assert cli.ok("exec", "-d", sleeper, "sh", "-c", "echo done >/tmp/it; exit 5") == ""
    while cli("exec", sleeper, "cat", "/tmp/it").stdout != "done\n":
        pass


def test_privileged(cli: Cli, sleeper: str) -> None:
    def effective(*options: str) -> int:
        return int(cli.ok("exec", *options, sleeper, "grep", "CapEff", "/proc/self/status").split()[1], 16)

    assert effective("--privileged") > effective()


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["nosuchprogram"], 126, 'exec: "nosuchprogram": executable file not found in $PATH'),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_a_command_that_cannot_be_run(cli: Cli, sleeper: str, command: list[str], code: int, text: str) -> None:
    finished = cli("exec", sleeper, *command)
    assert finished.returncode == code
    said = finished.stdout + finished.stderr
    assert said.startswith("OCI runtime exec failed: exec failed: unable to start container process: ")
    assert text in said
    assert cli.inspect(sleeper, "{{.ExecIDs}}") in ("<no value>", "[]")


def test_a_working_directory_is_absolute(cli: Cli, sleeper: str) -> None:
    for path in ("tmp", "./tmp", ".."):
        finished = cli("exec", "-w", path, sleeper, "pwd")
        assert finished.returncode == 126
        said = (finished.stdout + finished.stderr).strip()
        assert said == "OCI runtime exec failed: exec failed: Cwd must be an absolute path: unknown"
    assert cli.ok("exec", "-w", "/tmp/../etc/.", sleeper, "pwd") == "/etc"


def test_who_is_not_there(cli: Cli, sleeper: str) -> None:
    finished = cli("exec", "-u", "nosuchuser", sleeper, "true")
    assert finished.returncode == 126
    assert (
        finished.stdout + finished.stderr
    ).strip() == "unable to find user nosuchuser: no matching entries in passwd file"


def test_where_nothing_runs(cli: Cli, busybox: str, sleeper: str) -> None:
    made = cli.ok("create", "--name", "made", busybox, "true")
    assert cli.fails("exec", "made", "true") == f"Error response from daemon: container {made} is not running\n"
    assert cli.fails("exec", "absent", "true") == "Error response from daemon: No such container: absent\n"
    cli.ok("pause", sleeper)
    said = cli.fails("exec", sleeper, "true")
    assert said == f"Error response from daemon: Container {sleeper} is paused, unpause the container before exec\n"


def test_it_ends_with_its_container(cli: Cli, sleeper: str) -> None:
    process = cli.begin("exec", sleeper, "sh", "-c", "echo up; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    cli.ok("kill", sleeper)
    process.communicate(timeout=20)
    assert process.returncode == 137


def test_many_at_once(cli: Cli, sleeper: str) -> None:
    processes = [cli.begin("exec", "-i", sleeper, "cat") for _ in range(10)]
    outputs = [process.communicate(str(number), timeout=30)[0] for number, process in enumerate(processes)]
    assert outputs == [str(number) for number in range(10)]
