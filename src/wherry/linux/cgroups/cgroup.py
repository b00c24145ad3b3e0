"""One cgroup: the same path in each hierarchy. Entering, limiting, freezing, ending, counting and removing it."""

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping

from wherry.linux.cgroups import v1, v2
from wherry.linux.cgroups.types import CgroupError, Resources, Stats, needed_controllers, read, read_numbers, write
from wherry.linux.files import IN_MODIFY, Inotify

PATIENCE = 5.0
"""Seconds that freezing, killing and removing wait for processes in uninterruptible sleep, before they give up."""


_ATTEMPTS = 3


class Cgroup:
    """A handle: it holds paths, no descriptors, so it costs nothing and survives a fork.

    ``directories`` maps v1 controllers to this cgroup's directory in their hierarchy; ``unified`` is that of v2, or
    None where v2 has nothing that a container needs.
    """

    __slots__ = ("directories", "path", "unified")

    def __init__(self, path: str, directories: Mapping[str, str], unified: str | None) -> None:
        self.path = path
        self.directories = dict(directories)
        self.unified = unified

    def all_directories(self) -> list[str]:
        """Each directory once: controllers that are mounted together share one."""
        legacy = list(dict.fromkeys(self.directories.values()))
        return [*legacy, self.unified] if self.unified else legacy

    def exists(self) -> bool:
        """Whether there is one of that path, in whichever hierarchy."""
        return any(os.path.isdir(directory) for directory in self.all_directories())

    def clone_target(self) -> int | None:
        """A descriptor for clone3's CLONE_INTO_CGROUP, which enters v2 for free; None where v2 is not used."""
        if self.unified is None:
            return None
        return os.open(self.unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def join(self, cloned: bool = False) -> None:
        """The calling process, which has one thread, enters. ``cloned``: it was cloned into the v2 cgroup already.

        v1 is entered through "tasks": a thread that moves itself needs no lock. "cgroup.procs" takes one that is shared
        with every fork and exit of the machine, and when nobody took it of late that waits for an RCU grace period:
        8 to 20 ms where the nine writes here take half a millisecond together. v2 has only that way, or clone3.
        """
        for directory in dict.fromkeys(self.directories.values()):
            write(f"{directory}/tasks", 0)
        if self.unified and not cloned:
            write(f"{self.unified}/cgroup.procs", 0)

    def update(self, resources: Resources) -> None:
        """Sets what is not None; the rest stays. Raises CgroupError for a limit that this machine cannot set."""
        for controller in needed_controllers(resources):
            directory = self.directories.get(controller)
            if directory:
                v1.SETTERS[controller](directory, resources)
            elif self.unified:
                v2.SETTERS[controller](self.unified, resources)
            else:
                detail = f"the {controller} controller is not there"
                raise CgroupError(errno.EOPNOTSUPP, "limit", self.path, detail=detail)

    def processes(self) -> list[int]:
        """The ids of all processes in it and below it, as our pid namespace knows them; none when it is gone."""
        directory = self._process_directory()
        if not directory:
            return []
        return [pid for each in (directory, *descendants(directory)) for pid in _listed(each)]

    def freeze(self) -> None:
        """Stops every process, and returns when all stand still. When it raises CgroupError, nothing is frozen."""
        freezer = self.directories.get("freezer")
        try:
            if freezer:
                self._freeze_v1(f"{freezer}/freezer.state")
            elif self.unified:
                write(f"{self.unified}/cgroup.freeze", 1)
                _wait_for_event(self.unified, "frozen", 1)
            else:
                raise CgroupError(errno.EOPNOTSUPP, "freeze", self.path, detail="there is no freezer")
        except CgroupError:
            with contextlib.suppress(CgroupError):
                self.thaw()
            raise

    def _freeze_v1(self, state: str) -> None:
        """v1 gives no event, and may need to be told again: it misses processes that are being forked meanwhile."""
        deadline = time.monotonic() + PATIENCE
        pause = 0.0001
        while True:
            write(state, "FROZEN")
            if read(state) == "FROZEN":
                return
            if time.monotonic() > deadline:
                raise CgroupError(errno.EBUSY, "freeze", self.path, detail="some process cannot be stopped")
            time.sleep(pause)
            pause = min(pause * 2, 0.02)

    def thaw(self) -> None:
        """Lets the processes go on."""
        freezer = self.directories.get("freezer")
        if freezer:
            write(f"{freezer}/freezer.state", "THAWED")
        elif self.unified:
            write(f"{self.unified}/cgroup.freeze", 0)

    def is_frozen(self) -> bool:
        """Whether its processes stand still, or are being stopped; not when it is gone."""
        freezer = self.directories.get("freezer")
        try:
            if freezer:
                return read(f"{freezer}/freezer.state") != "THAWED"
            return self.unified is not None and read(f"{self.unified}/cgroup.freeze") == "1"
        except OSError:
            return False

    def end(self) -> None:
        """Ends what is in it and removes it; one that is not there is no error. Raises CgroupError like both.

        Done again where a process has come in meanwhile: one that was on its way when who had sent it was killed.
        """
        for attempt in range(_ATTEMPTS):
            try:
                self.kill()
                return self.remove()
            except CgroupError:
                if attempt == _ATTEMPTS - 1:
                    raise
        return None

    def kill(self) -> None:
        """Ends every process in it and below it, whatever it forks meanwhile. Returns when none is left.

        Raises CgroupError after some seconds when one cannot be ended. Not for the process that is in it itself.
        """
        if self.unified and self._process_directory() == self.unified:
            kill_file = f"{self.unified}/cgroup.kill"
            if os.path.exists(kill_file):
                write(kill_file, 1)
                _wait_for_event(self.unified, "populated", 0)
                return
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(CgroupError):  # all the better without: what forks is caught in the next round
            self.freeze()
        while self.processes():
            with _Pidfds(self.processes()) as pidfds:
                # A number may have gone to another process since it was listed: what is still listed now, while it
                # is held by a descriptor, is the process we mean.
                for pid in self.processes():
                    pidfds.kill(pid)
                with contextlib.suppress(CgroupError):
                    self.thaw()
                pidfds.wait(deadline)
            if time.monotonic() > deadline:
                raise CgroupError(errno.EBUSY, "kill", self.path, detail=f"processes {self.processes()} do not end")
        with contextlib.suppress(CgroupError):
            self.thaw()

    def remove(self) -> None:
        """Removes it from every hierarchy, with all cgroups below it; one that is not there is no error.

        Waits for processes that are about to end. Raises CgroupError when some stay.
        """
        for directory in self.all_directories():
            self.remove_directory(directory)

    def remove_directory(self, directory: str) -> None:
        """The same for one hierarchy's directory."""
        deadline = time.monotonic() + PATIENCE
        pause = 1
        while True:
            try:
                os.rmdir(directory)
                return
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY) or time.monotonic() > deadline:
                    pids = _listed(directory)
                    detail = f"processes {pids} are in it" if pids else ""
                    raise CgroupError(error.errno or errno.EIO, "remove cgroup", directory, detail=detail) from error
            for child in child_directories(directory):
                self.remove_directory(child)
            pids = _listed(directory)
            if pids:
                with _Pidfds(pids) as pidfds:
                    pidfds.wait(deadline)
            else:  # a process has left the list and not yet let go: there is nothing to wait on
                select.poll().poll(pause)
                pause = min(pause * 2, 50)

    def oom_kills(self) -> int:
        """How many processes in it the kernel has killed for want of memory; 0 where memory is not counted."""
        memory = self.directories.get("memory")
        try:
            if memory:
                return read_numbers(f"{memory}/memory.oom_control").get("oom_kill", 0)
            if self.unified:
                return read_numbers(f"{self.unified}/memory.events").get("oom_kill", 0)
        except FileNotFoundError:
            return 0
        return 0

    def has_run_out(self, kills: int) -> bool:
        """Whether it has since so many processes had been killed, after ``oom_event_fd`` woke.

        v1 wakes for nothing else, as long as the cgroup is there, and before it counts; v2 for other events as well.
        """
        return bool(self.directories.get("memory")) or self.oom_kills() > kills

    def oom_event_fd(self) -> int:
        """A descriptor that becomes readable when the cgroup may have run out of memory; then ask ``has_run_out``.

        v1: an eventfd (which the cgroup's removal wakes, too); v2: an inotify instance. Read it empty when it wakes.
        """
        memory = self.directories.get("memory")
        if memory:
            event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            try:
                control = os.open(f"{memory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    write(f"{memory}/cgroup.event_control", f"{event} {control}")
                finally:
                    os.close(control)
            except OSError:
                os.close(event)
                raise
            return event
        inotify = Inotify()
        try:
            inotify.watch(f"{self.unified}/memory.events", IN_MODIFY)
        except OSError:
            inotify.close()
            raise
        return inotify.fileno()

    def stats(self) -> Stats:
        """All that has been counted so far. Raises FileNotFoundError when the cgroup is gone."""
        legacy = v1.read_stats(self.directories)
        if self.unified is None:
            return legacy
        unified = v2.read_stats(self.unified, read(f"{self.unified}/cgroup.controllers").split())
        return Stats(
            cpu=legacy.cpu if "cpuacct" in self.directories else unified.cpu,
            memory=legacy.memory if "memory" in self.directories else unified.memory,
            pids=legacy.pids if "pids" in self.directories else unified.pids,
            blkio=legacy.blkio if "blkio" in self.directories else unified.blkio,
        )

    def _process_directory(self) -> str:
        """The hierarchy to ask for processes: they are in all of them, and a v1 freezer is what kill goes by."""
        for controller in ("freezer", "pids", "memory", "cpu"):
            if controller in self.directories:
                return self.directories[controller]
        return self.unified or next(iter(self.directories.values()), "")


class _Pidfds:
    """Descriptors of processes: what they name stays the same process, and they tell when it has ended."""

    def __init__(self, pids: list[int]) -> None:
        self._fds: dict[int, int] = {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self._fds[pid] = os.pidfd_open(pid)

    def __enter__(self) -> "_Pidfds":
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds.values():
            os.close(fd)

    def kill(self, pid: int) -> None:
        """SIGKILL, if it is one of these and still runs."""
        if pid in self._fds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fds[pid], signal.SIGKILL)

    def wait(self, deadline: float) -> None:
        """Until all of them have ended, or time.monotonic() has come to the deadline."""
        poll = select.poll()
        for fd in self._fds.values():
            poll.register(fd, select.POLLIN)
        left = len(self._fds)
        while left and (milliseconds := (deadline - time.monotonic()) * 1000) > 0:
            for fd, _ in poll.poll(milliseconds):
                poll.unregister(fd)
                left -= 1


def child_directories(directory: str) -> list[str]:
    """The cgroups right below one; none when it is gone."""
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def descendants(directory: str) -> Iterator[str]:
    """All cgroups below one, parents first."""
    for child in child_directories(directory):
        yield child
        yield from descendants(child)


def _listed(directory: str) -> list[int]:
    try:
        pids = [int(pid) for pid in read(f"{directory}/cgroup.procs").split()]
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno == errno.ENODEV:  # it is being removed
            return []
        raise
    return [pid for pid in pids if pid]  # 0: a process that is not in our pid namespace


def _wait_for_event(directory: str, key: str, value: int) -> None:
    """Until the v2 cgroup's file of events says so; the kernel wakes a poll of it at every change."""
    deadline = time.monotonic() + PATIENCE
    path = f"{directory}/cgroup.events"
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        while True:
            events = dict(line.split() for line in os.pread(fd, 4096, 0).decode().splitlines())
            if int(events[key]) == value:
                return
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise CgroupError(errno.EBUSY, f'wait for "{key} {value}" in', path)
            poll.poll(remaining * 1000)
    finally:
        os.close(fd)
