"""``update`` and ``stats``, by docker's command line and by wherry's."""

import json
import os
import re

import pytest

from tests.clients.conftest import Cli
from tests.support.engine import Engine


def limits(cli: Cli, name: str) -> list[object]:
    host = json.loads(cli.inspect(name, "{{json .HostConfig}}"))
    fields = ("Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuShares", "PidsLimit", "CpusetCpus")
    return [*(host[field] for field in fields), host["RestartPolicy"]["Name"]]


def test_limits_are_changed_in_the_kernel_and_for_good(cli: Cli, busybox: str, engine: Engine) -> None:
    name = cli.ok("run", "-d", busybox, "sleep", "60")
    words = ["--memory", "64m", "--memory-swap", "128m", "--cpus", "0.5", "--pids-limit", "50", "--restart", "always"]
    assert cli.ok("update", *words, "--cpu-shares", "512", "--cpuset-cpus", "0", name) == name
    expected = [64 << 20, 128 << 20, 0, 500_000_000, 512, 50, "0", "always"]
    assert limits(cli, name) == expected
    files = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
    assert cli.ok("exec", name, "sh", "-c", f"cat {files} 2>/dev/null; true") == str(64 << 20)
    engine.kill()
    engine.start()
    assert limits(cli, name) == expected
    assert cli.ok("update", "--memory-reservation", "32m", name) == name
    assert limits(cli, name) == [*expected[:2], 32 << 20, *expected[3:]]


@pytest.mark.parametrize("state", ["run", "create"])
def test_what_cannot_be(cli: Cli, busybox: str, state: str) -> None:
    name = cli.ok(state, *(["-d"] if state == "run" else []), "--cpus", "1", busybox, "sleep", "60")
    refused = f"Error response from daemon: Cannot update container {name}: "
    conflict = f"{refused}Conflicting options: CPU %s cannot be updated as NanoCPUs has already been set"
    for words, reason in (
        (["--memory", "1m"], "Error response from daemon: Minimum memory limit allowed is 6MB"),
        (["--memory", "64m"], f"{refused}Memory limit should be smaller than already set memoryswap limit, update "),
        (["--cpu-quota", "5000"], conflict % "Quota"),
        (["--cpu-period", "500000"], conflict % "Period"),
        (["--blkio-weight", "5"], "Error response from daemon: Range of blkio weight is from 10 to 1000"),
        (["--cpuset-cpus", "77"], "Error response from daemon: Requested CPUs are not available - requested 77, "),
    ):
        assert cli.fails("update", *words, name).splitlines()[-1].startswith(reason)
    assert limits(cli, name)[:4] == [0, 0, 0, 10**9]
    assert (
        cli.fails("update", name).splitlines()[0].endswith("you must provide one or more flags when using this command")
    )


def test_a_container_that_removes_itself_is_not_restarted(cli: Cli, busybox: str) -> None:
    name = cli.ok("run", "--rm", "-d", busybox, "sleep", "60")
    reason = "Restart policy cannot be updated because AutoRemove is enabled for the container"
    assert cli.fails("update", "--restart", "always", name).endswith(f"{name}: {reason}\n")


def test_too_many_processors(cli: Cli, busybox: str) -> None:
    count = len(os.sched_getaffinity(0))
    reason = f"Range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
    assert reason in cli.fails("run", "--cpus", "1000", busybox, "true", code=125)


def test_one_sample(cli: Cli, busybox: str) -> None:
    name = cli.ok("run", "-d", "--name", "sampled", "-m", "64m", busybox, "sh", "-c", "while :; do :; done")
    title, row = cli.ok("stats", "--no-stream").splitlines()
    assert re.split(r" {2,}", title) == [
        "CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"
    ]  # fmt: skip
    shown, called, processor, memory, share, *_, processes = re.split(r" {2,}", row.strip())
    assert (shown, called, processes) == (name[:12], "sampled", "1")
    assert float(processor.rstrip("%")) > 10
    assert memory.endswith(" / 64MiB")
    assert share.endswith("%")
    assert cli.ok("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}", "sampled") == name
    assert cli.fails("stats", "--no-stream", "nope") == "Error response from daemon: No such container: nope\n"


def test_samples_as_they_come(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "first", busybox, "sleep", "60")
    terminal = cli.terminal("stats", columns=200)
    terminal.expect("first")
    cli.ok("run", "-d", "--name", "second", busybox, "sleep", "60")
    terminal.expect("second")
    cli.ok("kill", "second")
    # A picture from its first place to its end, with the one and without the other.
    terminal.expect(r"\x1b\[H(?:(?!second|\x1b\[[HJ])[\s\S])*first(?:(?!second|\x1b\[[HJ])[\s\S])*\x1b\[J")
    terminal.send("\x03")
    assert terminal.wait() in (0, 130)
