"""Processes that enter a container which is running: exec, health checks, cp, and containers that join its processes.

A hole is a moment in which a process of the engine's can be seen in the container's /proc while something of the host's
is still on it. With CAP_SYS_PTRACE the container follows /proc/<pid>/root then, and writes on the host.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import MARK, PROJECT, Engine

SECONDS = float(os.environ.get("WHERRY_TEST_ATTACK_SECONDS", "3"))
"""How long each attack goes on; a minute or more is for one's own trust."""

DEFAULT_CAPABILITIES = "00000000a80425fb"
NO_CAPABILITIES = "0000000000000000"

# Looks at every process that it has not seen yet, again and again, and says what of the host's it has found.
ATTACK = r"""
my ($marker) = @ARGV; my ($looks, $found, $on) = (0, 0, 1);
$SIG{TERM} = sub { $on = 0 };
my %known = (1 => 1, $$ => 1);
sub found { $found++; print "@_\n" }
$| = 1; print "begun\n";
while ($on) {
  opendir(my $proc, "/proc") or die;
  for my $pid (readdir $proc) {
    next if $pid !~ /^\d+$/ or $known{$pid};
    $looks++;
    if (open(my $file, "+<", "/proc/$pid/root$marker")) { found "root of $pid"; print $file "attacked"; close $file }
    for my $way ("cwd", "root", "exe") {
      my $link = readlink("/proc/$pid/$way");
      found "$way of $pid: $link" if defined $link and $link =~ m{wherry/|python|\.\.};
    }
    if (open(my $maps, "<", "/proc/$pid/maps")) {
      my $text = do { local $/; <$maps> } // "";
      found "maps of $pid" if $text =~ /python/;
    }
    if (opendir(my $fds, "/proc/$pid/fd")) {
      for my $fd (readdir $fds) {
        my $link = readlink("/proc/$pid/fd/$fd");
        found "fd of $pid: $link" if defined $link and $link =~ m{wherry|^socket:|^net:|^mnt:};
      }
    }
    if (open(my $environ, "<", "/proc/$pid/environ")) {
      my $text = do { local $/; <$environ> } // "";
      found "environ of $pid" if $text =~ /MARK/;
    }
  }
}
print "looks $looks found $found\n";
"""


@pytest.fixture
def marker(engine: Engine) -> Iterator[Path]:
    """A file of the host's that no container has."""
    path = engine.root / "marker"
    path.write_text("the host's")
    yield path
    assert path.read_text() == "the host's"
    path.unlink()


@contextlib.contextmanager
def attacked(engine: Engine, debian: str, marker: Path, *options: str, least: int = 0) -> Iterator[dict[str, Any]]:
    """A container that looks for a way out while the block does something, ``least`` times or more; then it must have
    found none."""
    script = ATTACK.replace("MARK", MARK)
    engine.wherry("run", "-d", "--name", "victim", "--cap-add", "SYS_PTRACE", "--cap-add", "SYS_ADMIN",
                  *options, debian, "perl", "-e", script, str(marker), check=True)  # fmt: skip
    while "begun" not in engine.wherry("logs", "victim", check=True).stdout:
        time.sleep(0.05)
    counts: dict[str, Any] = {"done": 0}
    deadline = time.monotonic() + SECONDS
    # On a busy machine it takes longer until there was something to be seen
    counts["goes_on"] = lambda: (
        time.monotonic() < deadline or (counts["done"] < least and time.monotonic() < deadline + 60)
    )
    yield counts
    engine.wherry("stop", "--time", "60", "victim", check=True)
    output = engine.wherry("logs", "victim", check=True).stdout
    assert output.splitlines()[-1].endswith(" found 0"), output[-2000:]
    counts["looks"] = int(output.split("looks ")[1].split()[0])
    print(f"{counts['done']} times entered, {counts['looks']} looks, nothing found")


def test_exec_shows_nothing_of_the_host(engine: Engine, debian: str, marker: Path) -> None:
    """A hole: the container finds the host's root, a descriptor or the engine's environment on who enters."""
    with attacked(engine, debian, marker, least=6) as counts:
        while counts["goes_on"]():
            engine.wherry("exec", "victim", "true", check=True)
            counts["done"] += 1
    assert counts["done"] > 5 and counts["looks"] > 0


def test_a_health_check_shows_nothing_of_the_host(engine: Engine, debian: str, marker: Path) -> None:
    """The same of what nobody started by hand, some fifty times a second."""
    check = ("--health-cmd", "true", "--health-interval", "20ms")
    with attacked(engine, debian, marker, *check) as counts:
        while counts["goes_on"]():
            time.sleep(0.1)
    assert counts["looks"] > 0


def test_cp_shows_nothing_of_the_host(engine: Engine, debian: str, marker: Path) -> None:
    """A hole: the worker that copies is seen in the container's /proc, with the host on it."""
    with attacked(engine, debian, marker, least=6) as counts:
        while counts["goes_on"]():
            engine.wherry("cp", "victim:/etc/passwd", str(engine.root / "copy"), check=True)
            counts["done"] += 1
    assert counts["done"] > 5


def test_a_container_that_joins_its_processes_shows_nothing(engine: Engine, debian: str, marker: Path) -> None:
    """A hole: the other container's first process is seen before its own root is its root (Docker's is)."""
    with attacked(engine, debian, marker, least=4) as counts:
        while counts["goes_on"]():
            engine.wherry("run", "--rm", "--pid", "container:victim", debian, "true", check=True)
            counts["done"] += 1
    assert counts["done"] > 3 and counts["looks"] > 0


def test_a_build_beside_it_shows_nothing(engine: Engine, debian: str, marker: Path, tmp_path: Path) -> None:
    """A hole: a step of a build is seen by a container that has nothing to do with it."""
    (tmp_path / "Dockerfile").write_text(f"FROM {debian}\nRUN true\n")
    with attacked(engine, debian, marker, least=3) as counts:
        while counts["goes_on"]():
            engine.wherry("build", "--no-cache", str(tmp_path), check=True)
            counts["done"] += 1
    assert counts["done"] > 2


# --- by order, not by luck: the entering process is stopped at each of its system calls


@pytest.fixture
def stepped(engine: Engine) -> Iterator[Callable[[str], contextlib.AbstractContextManager[dict[str, Any]]]]:
    @contextlib.contextmanager
    def step(container: str) -> Iterator[dict[str, Any]]:
        init = engine.request("GET", f"/containers/{container}/json").body["State"]["Pid"]
        traced: list[str] = []
        while len(traced) < 3:  # the launcher, the container's monitor, and the one that waits for the next container
            names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in engine.processes()}
            traced = [str(pid) for pid, name in names.items() if name in ("wherry-monitor", "wherry-launcher")]
        tracer = subprocess.Popen(
            [sys.executable, "-m", "tests.support.stepping", str(init), *traced],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT, text=True,
        )  # fmt: skip
        assert tracer.stdout is not None and tracer.stdin is not None
        assert tracer.stdout.readline() == "ready\n"
        found: dict[str, Any] = {}
        try:
            yield found
        finally:
            tracer.stdin.close()
            found.update(json.loads(tracer.stdout.read() or "{}"))
            tracer.wait()

    yield step


@pytest.mark.parametrize(
    ("options", "capabilities", "uid", "seccomp"),
    [
        ((), DEFAULT_CAPABILITIES, "0", "2"),
        (("-t",), DEFAULT_CAPABILITIES, "0", "2"),
        (("-w", "/tmp"), DEFAULT_CAPABILITIES, "0", "2"),
        (("-u", "1000"), NO_CAPABILITIES, "1000", "2"),
        (("--privileged",), None, "0", None),
    ],
    ids=["plain", "terminal", "directory", "user", "privileged"],
)
def test_an_exec_is_seen_as_the_containers_own_alone(
    engine: Engine, busybox: str, stepped: Any, options: tuple[str, ...], capabilities: str | None, uid: str,
    seccomp: str | None,
) -> None:  # fmt: skip
    """A hole is a step at which it is seen with another root, user, set of capabilities, or with a file of the host's;
    or at which a container with the host's processes may look at the interpreter, once that has no more privilege."""
    engine.wherry("run", "-d", "--name", "seen", busybox, "sleep", "1000", check=True)
    with stepped("seen") as found:
        engine.wherry("exec", *options, "seen", "true", check=True)
    _check(engine, found, capabilities, uid, seccomp)


def test_a_process_that_joins_is_seen_as_its_containers_own_alone(engine: Engine, busybox: str, stepped: Any) -> None:
    """The same of a container that joins the processes of this one."""
    engine.wherry("run", "-d", "--name", "seen", busybox, "sleep", "1000", check=True)
    with stepped("seen") as found:
        engine.wherry("run", "--rm", "--pid", "container:seen", busybox, "true", check=True)
    _check(engine, found, DEFAULT_CAPABILITIES, "0", "2", same_root=False)


def _check(
    engine: Engine, found: Any, capabilities: str | None, uid: str, seccomp: str | None, *, same_root: bool = True
) -> None:  # fmt: skip
    assert found["looks"] > 100
    assert found["open"] == ["/memfd:wherry-init (deleted)"] * (uid == "0" and capabilities is not None)
    (seen,) = found["seen"]
    assert seen["looks"] >= 2
    if same_root:
        assert seen["root"] == [True]
    else:
        host = os.stat("/")
        assert (host.st_dev, host.st_ino) not in seen["root"]
    assert seen["uid"] == [uid]
    assert len(seen["capabilities"]) == 1 and len(seen["bounding"]) == 1
    assert capabilities is None or seen["capabilities"] == [capabilities]
    assert seccomp is None or seen["seccomp"] == [seccomp]
    assert seen["program"] == ["/memfd:wherry-init (deleted)"]
    assert seen["mapped"] == [["/memfd:wherry-init (deleted)"]]
    assert seen["secrets"] == [0]
    assert max(seen["descriptors"]) <= 4  # the streams, and a pipe to say what goes wrong
    assert all(str(engine.root) not in link for links in seen["files"] for link in links)
    assert os.readlink("/proc/self/ns/net") not in seen["net"]
