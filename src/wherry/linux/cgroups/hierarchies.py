"""Which cgroup hierarchies this machine has, and making cgroups in all of them.

Three kinds of machine: v2 (one hierarchy for all controllers), v1 (one a controller, or a few controllers together),
and the hybrid of both, where each controller is in one of them. A cgroup of ours has the same path in every hierarchy
that carries a controller (and in systemd's own, so that systemd does not take a container for a part of the engine).

    hierarchies = Hierarchies.detect()
    cgroup = hierarchies.create("/wherry/4f2a", Resources(memory=64 << 20, devices=DEFAULT_DEVICE_RULES))
    ... in a forked child: cgroup.join()
    cgroup.kill()
    cgroup.remove()
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping

from wherry.linux.cgroups.cgroup import Cgroup
from wherry.linux.cgroups.types import CgroupError, Resources, read, write

UNIFIED_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")
"""What a container needs of v2. The v2 side of a hybrid that has none of these is left alone: it is slow to enter."""

LEAF = "init"
"""Where the processes go that stand in the way of the no-internal-processes rule; the name that others use, too."""

FEATURES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "memory": (("memory.limit_in_bytes",), ("memory.max",)),
    "memory.swap": (("memory.memsw.limit_in_bytes",), ("memory.swap.max",)),
    "memory.reservation": (("memory.soft_limit_in_bytes",), ("memory.low",)),
    "memory.swappiness": (("memory.swappiness",), ()),
    "memory.oom_kill_disable": (("memory.oom_control",), ()),
    "cpu.shares": (("cpu.shares",), ("cpu.weight",)),
    "cpu.quota": (("cpu.cfs_quota_us",), ("cpu.max",)),
    "cpu.realtime": (("cpu.rt_runtime_us",), ()),
    "cpuset": (("cpuset.cpus",), ("cpuset.cpus",)),
    "pids": (("pids.max",), ("pids.max",)),
    "blkio.weight": (("blkio.weight", "blkio.bfq.weight"), ("io.weight", "io.bfq.weight")),
    "blkio.weight_device": (("blkio.weight_device", "blkio.bfq.weight_device"), ("io.weight", "io.bfq.weight")),
    "blkio.throttle": (("blkio.throttle.read_bps_device",), ("io.max",)),
    "devices": (("devices.allow",), ("cgroup.procs",)),  # v2: a program, attached to any cgroup
    "freezer": (("freezer.state",), ("cgroup.freeze",)),
    "kill": ((), ("cgroup.kill",)),
}
"""What ``supports`` can be asked, with the files of v1 and of v2 of which one must be there."""


class Hierarchy:
    """One mounted hierarchy: where paths start, and its controllers ("name=systemd" is one, too)."""

    __slots__ = ("controllers", "directory", "unified")

    def __init__(self, directory: str, controllers: tuple[str, ...], unified: bool = False) -> None:
        self.directory = directory
        self.controllers = controllers
        self.unified = unified


class Hierarchies:
    """All hierarchies that a container's cgroup is made in."""

    def __init__(self, legacy: tuple[Hierarchy, ...], unified: Hierarchy | None, version: int = 0) -> None:
        """``version`` is that of the machine; 0 is the one that these are of."""
        self.legacy = legacy
        self.unified = unified
        self.version = version or (2 - any(not c.startswith("name=") for h in legacy for c in h.controllers))
        self._prepared: set[str] = set()
        self._cloning: dict[str, bool] = {}
        self._files: frozenset[str] | None = None

    @classmethod
    def detect(cls, root: str = "/", proc: str = "/proc") -> "Hierarchies":
        """The machine's hierarchies, from ``proc``/self/mountinfo and ``proc``/self/cgroup.

        ``root`` is the cgroup below which every path starts: "/" is each mount's own root (all that this process can
        see, when it runs in a container itself), "." the cgroup that this process is in, for a user it was delegated
        to. Raises CgroupError when nothing is mounted.
        """
        own = _own_cgroups(proc)
        legacy: list[Hierarchy] = []
        unified: Hierarchy | None = None
        seen: set[tuple[str, ...]] = set()
        for mount_root, mount_point, kind, options in _cgroup_mounts(proc):
            controllers = () if kind == "cgroup2" else tuple(option for option in options if option in own)
            if controllers in seen or (kind == "cgroup" and not controllers):
                continue
            seen.add(controllers)
            directory = mount_point
            if root == ".":
                directory = _below(mount_point, mount_root, own[controllers[0] if controllers else ""])
            elif root != "/":
                directory = mount_point + _normal(root)
            if kind == "cgroup":
                legacy.append(Hierarchy(directory, controllers))
            else:
                unified = Hierarchy(directory, _available(directory), unified=True)
        taken = {controller for hierarchy in legacy for controller in hierarchy.controllers}
        if unified is not None and legacy and not taken.isdisjoint(("freezer", "devices")):
            useful = tuple(c for c in unified.controllers if c in UNIFIED_CONTROLLERS)
            unified = Hierarchy(unified.directory, useful, unified=True) if useful else None
        if unified is None and not taken:
            raise CgroupError(errno.ENOENT, "find", "cgroups", detail="no cgroup file system is mounted")
        return cls(tuple(legacy), unified)

    @classmethod
    def usable(cls) -> "Hierarchies":
        """Those that this process may make cgroups in: all of them for root; for root of a user namespace what was
        delegated, which is v2's alone, and else none. Raises CgroupError when the machine has none."""
        found = cls.detect()
        if found._is_ours():
            return found
        with contextlib.suppress(CgroupError):
            own = cls.detect(".")
            if own.unified is not None and own.unified.directory.endswith(f"/{LEAF}"):  # moved down by _vacate
                own.unified.directory = os.path.dirname(own.unified.directory)
            if own._is_ours() and own.unified is not None:
                return cls((), own.unified)
        return cls((), None, found.version)

    def _is_ours(self) -> bool:
        return all(os.access(each.directory, os.W_OK) for each in (*self.legacy, self.unified) if each is not None)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.legacy) or self.unified is not None

    @property
    def controllers(self) -> frozenset[str]:
        """All controllers, by the kernel's names (v2's "io" is v1's "blkio")."""
        found = {controller for hierarchy in self.legacy for controller in hierarchy.controllers}
        return frozenset(found.union(self.unified.controllers if self.unified else ()))

    def open(self, path: str) -> Cgroup:
        """A handle on the cgroup at ``path``; nothing is touched, and it may not be there."""
        path = _normal(path)
        directories = {c: h.directory + path for h in self.legacy for c in h.controllers}
        return Cgroup(path, directories, self.unified.directory + path if self.unified else None)

    def create(self, path: str, resources: Resources) -> Cgroup:
        """A new, empty cgroup with these limits, in every hierarchy. Missing parents are made, and stay.

        One of that name that is left over from a crash is replaced when it is empty. Raises CgroupError, and leaves
        nothing behind.
        """
        cgroup = self.open(path)
        if cgroup.path == "/":
            raise CgroupError(errno.EINVAL, "create cgroup", path, detail="this is the root")
        parent = os.path.dirname(cgroup.path)
        made: list[str] = []
        try:
            self.prepare(parent)
            for directory in cgroup.all_directories():
                try:
                    self._make(directory, cgroup)
                except FileNotFoundError:  # somebody removed the parent since it was prepared
                    self._prepared.discard(parent)
                    self.prepare(parent)
                    self._make(directory, cgroup)
                made.append(directory)
            if (cpuset := cgroup.directories.get("cpuset")) and not self._cloning.get(os.path.dirname(cpuset)):
                _inherit_cpuset(cpuset)
            cgroup.update(resources)
        except OSError as error:
            for directory in made:
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
            if isinstance(error, CgroupError):
                raise
            raise CgroupError(error.errno or errno.EIO, "create cgroup", error.filename or cgroup.path) from error
        return cgroup

    def prepare(self, parent: str) -> None:
        """Makes a cgroup fit to hold others: v1 processors and memory nodes handed on, v2 controllers turned on.

        ``create`` does this by itself; a process that forks for each container does it once, before, and saves each
        child the work.
        """
        parent = _normal(parent)
        if parent in self._prepared:
            return
        for hierarchy in self.legacy:
            cpuset = "cpuset" in hierarchy.controllers
            for step in ("", *_steps(parent)):
                directory = hierarchy.directory + step
                made = bool(step) and _make_parent(directory)
                if cpuset and step:
                    _inherit_cpuset(directory)
                if cpuset and made:  # children then get their processors and memory nodes as they are made
                    write(f"{directory}/cgroup.clone_children", 1)
            if cpuset:
                self._cloning[directory] = read(f"{directory}/cgroup.clone_children") == "1"
        if self.unified is not None:
            self._enable(self.unified.directory)
            for step in _steps(parent):
                _make_parent(self.unified.directory + step)
                self._enable(self.unified.directory + step)
        self._prepared.add(parent)

    def supports(self, feature: str) -> bool:
        """Whether this machine can do what Docker only warns about where it cannot; the names are those of FEATURES."""
        if self._files is None:
            self._files = frozenset(self._probe())
        legacy, unified = FEATURES[feature]
        return any(file in self._files for file in (*(f"1:{f}" for f in legacy), *(f"2:{f}" for f in unified)))

    def _make(self, directory: str, cgroup: Cgroup) -> None:
        try:
            os.mkdir(directory, 0o755)
        except FileExistsError:
            if cgroup.processes():
                detail = "a cgroup of that name is there, with processes in it"
                raise CgroupError(errno.EEXIST, "create cgroup", directory, detail=detail) from None
            self.open(cgroup.path).remove_directory(directory)
            os.mkdir(directory, 0o755)

    def _enable(self, directory: str) -> None:
        """Turns every controller that there is on for the children of a v2 cgroup."""
        assert self.unified is not None
        on = read(f"{directory}/cgroup.subtree_control").split()
        there = _available(directory)
        missing = [c for c in self.unified.controllers if c in there and c not in on]
        if not missing:
            return
        change = " ".join(f"+{controller}" for controller in missing)
        try:
            write(f"{directory}/cgroup.subtree_control", change)
        except CgroupError as error:
            if error.errno != errno.EBUSY:
                raise
            # Processes are in this very cgroup. Where it is all ours (we are in a container, or it was delegated), they
            # move down by one; anywhere else they are somebody's.
            if directory != self.unified.directory:
                detail = (
                    "it has processes of its own, so it cannot have limited cgroups below it; choose another parent"
                )
                raise CgroupError(errno.EBUSY, "enable controllers in", directory, detail=detail) from error
            _vacate(directory)
            write(f"{directory}/cgroup.subtree_control", change)

    def _probe(self) -> Iterator[str]:
        """Every file of a cgroup, with its version: many are not in the root, so that a cgroup is made to look at."""
        for hierarchy in (*self.legacy, *((self.unified,) if self.unified else ())):
            version = 2 if hierarchy.unified else 1
            probe = f"{hierarchy.directory}/wherry-probe-{os.getpid()}"
            try:
                if hierarchy.unified:
                    self._enable(hierarchy.directory)
                os.mkdir(probe)
            except OSError:  # who may not make cgroups gets what is there
                probe = hierarchy.directory
            try:
                yield from [f"{version}:{file}" for file in os.listdir(probe)]
            finally:
                if probe != hierarchy.directory:
                    os.rmdir(probe)


def _normal(path: str) -> str:
    """An absolute path without a way up."""
    parts = [part for part in path.split("/") if part]
    if not path.startswith("/") or ".." in parts or "." in parts:
        raise CgroupError(errno.EINVAL, "use cgroup", path, detail='its path must be absolute and without "..".')
    return "/" + "/".join(parts)


def _steps(path: str) -> list[str]:
    """/a, /a/b and /a/b/c for /a/b/c."""
    parts = path.strip("/").split("/") if path != "/" else []
    return ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]


def _make_parent(directory: str) -> bool:
    """Whether it was not there before."""
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        return False
    except OSError as error:
        raise CgroupError(error.errno or errno.EIO, "create cgroup", directory) from error
    return True


def _inherit_cpuset(directory: str) -> None:
    """v1: a new cpuset has no processors and no memory, and nobody can enter it before it has some."""
    parent = os.path.dirname(directory)
    for file in ("cpuset.cpus", "cpuset.mems"):
        if not read(f"{directory}/{file}"):
            write(f"{directory}/{file}", read(f"{parent}/{file}"))


def _vacate(directory: str) -> None:
    """Moves the processes of a v2 cgroup into a leaf below it; again while they fork, but not for ever."""
    leaf = f"{directory}/{LEAF}"
    _make_parent(leaf)
    for _ in range(100):
        pids = read(f"{directory}/cgroup.procs").split()
        if not pids:
            return
        for pid in pids:
            try:
                write(f"{leaf}/cgroup.procs", pid)
            except CgroupError as error:
                if error.errno != errno.ESRCH:  # it has ended
                    raise
    raise CgroupError(errno.EBUSY, "empty cgroup", directory, detail="its processes fork faster than they can be moved")


def _available(directory: str) -> tuple[str, ...]:
    try:
        return tuple(read(f"{directory}/cgroup.controllers").split())
    except OSError as error:
        raise CgroupError(error.errno or errno.EIO, "find the controllers of cgroup", directory) from error


def _below(mount_point: str, mount_root: str, path: str) -> str:
    """Where the cgroup that /proc/self/cgroup names is to be found under the mount."""
    if path.startswith("/.."):
        raise CgroupError(errno.ENOENT, "find own cgroup", path, detail="it is outside of this cgroup namespace")
    inside = os.path.relpath(path, mount_root)
    if inside.startswith(".."):
        raise CgroupError(errno.ENOENT, "find own cgroup", path, detail=f"it is not below {mount_point}")
    return mount_point if inside == "." else f"{mount_point}/{inside}"


def _own_cgroups(proc: str) -> dict[str, str]:
    """This process's cgroup by controller; "" is v2's."""
    own = {}
    for line in read(f"{proc}/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    return own


def _cgroup_mounts(proc: str) -> Iterator[tuple[str, str, str, list[str]]]:
    """Root inside the hierarchy, mount point, type and options of each cgroup mount."""
    for line in read(f"{proc}/self/mountinfo").splitlines():
        mount, _, file_system = line.partition(" - ")
        kind, _, options = file_system.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            _, _, _, mount_root, mount_point, *_ = mount.split(" ")
            yield _plain(mount_root), _plain(mount_point), kind, options.split(",")


def _plain(path: str) -> str:
    """mountinfo writes blanks as \\040 and the like."""
    return path.encode().decode("unicode_escape") if "\\" in path else path
