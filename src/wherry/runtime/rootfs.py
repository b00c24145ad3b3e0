"""The container's root: built with all its mounts in the container's own mount namespace, then made "/".

Whoever wrote the image chose every name in it, and another container may be changing a shared volume right now. So each
target is opened inside the root first, links and all, and the mount is then put upon that descriptor (see
``linux.mounts`` and ``linux.paths``); no path is resolved twice.
"""

import errno
import os
import posixpath
import re
import stat
from collections.abc import Sequence
from typing import NamedTuple

from wherry.linux import files, mounts, namespaces, terminal, user_namespaces
from wherry.linux.cgroups import Cgroup, Hierarchies
from wherry.linux.mounts import Mount
from wherry.linux.syscalls import AT_FDCWD, SyscallError
from wherry.runtime.ipc import StartError, reason
from wherry.runtime.protection import MASKS, fill_masks, make_read_only, mask, protect_proc
from wherry.runtime.spec import Device, Spec

# The file systems that nearly every container has, made before it is known which container that will be.
#
# A new /proc, /sys or /dev takes the kernel as long as all the rest of a root together. A process that was started
# ahead, and that is already in the namespaces they belong to, makes them while nobody waits: detached, as descriptors.
# A spec's mount takes the one that is exactly what it asks for, and otherwise makes its own.

_CLOSED = ("nosuid", "noexec", "nodev")
_PROC_ROOT_INODE = 1
_USUAL = (
    Mount("tmpfs", "tmpfs", "/dev", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount("devpts", "devpts", "/dev/pts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    Mount("sysfs", "sysfs", "/sys", (*_CLOSED, "ro")),
    Mount("mqueue", "mqueue", "/dev/mqueue", _CLOSED),
    Mount("tmpfs", "shm", "/dev/shm", (*_CLOSED, "mode=1777", "size=67108864")),
    MASKS,
)
_OF_KERNEL = {"proc": "/proc", "sysfs": "/sys", "devpts": ""}
_PROC = Mount("proc", "proc", "/proc", _CLOSED)

DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    *([("core", "/proc/kcore")] if os.path.exists("/proc/kcore") else []),
)


class FileSystems:
    """Detached mounts, by what they are."""

    def __init__(self) -> None:
        self._ready: dict[Mount, int] = {}
        self._protected: dict[Mount, int] = {}

    def prepare(self) -> None:
        """Makes the usual ones. This process must be in the namespaces that they are to be of."""
        self._ready = {mount: make(mount) for mount in _USUAL}
        proc = make(_PROC)
        try:
            protect_proc(proc)
            self._protected[_PROC] = proc
        except SyscallError:  # before Linux 6.15 it has to be mounted first
            os.close(proc)

    def offer(self, mount: Mount, detached: int) -> None:
        """One that was made elsewhere."""
        self._ready[mount] = detached

    def take(self, mount: Mount) -> int:
        """The detached mount that is asked for, ready or made now."""
        ready = self._ready.pop(mount, -1)
        return ready if ready >= 0 else make(mount)

    def take_protected(self, mount: Mount) -> int | None:
        """A /proc that is asked for, if one is ready and protected."""
        return self._protected.pop(mount, None)

    def discard(self) -> None:
        """Closes those that nobody asked for."""
        for fd in (*self._ready.values(), *self._protected.values()):
            os.close(fd)
        self._ready.clear()
        self._protected.clear()


def make(mount: Mount) -> int:
    """A new file system, detached. A /dev has its devices and links in it."""
    detached = (
        _make_of_kernel(mount) if mount.type in _OF_KERNEL else mounts.make(mount.type, mount.source, mount.options)
    )
    if mount.subpath:
        return mounts.part(detached, mount)
    options = mounts.parse_options(mount.options)
    if options.propagation:
        mounts.change(detached, propagation=options.propagation)
    if mount == MASKS:
        fill_masks(detached)
    if is_device_directory(mount):
        for name, target in _LINKS:
            os.symlink(target, name, dir_fd=detached)
        for name, major, minor in DEVICES:
            try:
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=detached)
            except PermissionError:  # in a user namespace: an empty file, for the host's node to be bound to
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=detached))
    return detached


def _make_of_kernel(mount: Mount) -> int:
    """In a user namespace those of namespaces that are the machine's cannot be made: the machine's own are copied. Nor
    can a terminal belong to a group that is not there."""
    options = mount.options
    if mount.type == "devpts" and user_namespaces.has_one_id():
        options = tuple(option for option in options if not option.startswith("gid="))
    try:
        return mounts.make(mount.type, mount.source, options)
    except SyscallError as error:
        place = _OF_KERNEL[mount.type]
        if error.errno != errno.EPERM or not place or user_namespaces.is_initial():
            raise
        detached = mounts.clone(place, recursive=True)
        mounts.change(detached, set=mounts.parse_options(options).set, recursive=True)
        return detached


def is_device_directory(mount: Mount) -> bool:
    return mount.target == "/dev" and mount.type == "tmpfs"


# /sys/fs/cgroup in a container: its own cgroup, as a view of each hierarchy that the host has.

_ATTRIBUTES = mounts.ATTR_NOSUID | mounts.ATTR_NODEV | mounts.ATTR_NOEXEC


def mount_cgroups(
    root: int, mount: Mount, hierarchies: Hierarchies, cgroup: Cgroup | None, *, own_namespace: bool
) -> None:
    """Mounts what the cgroup may see of itself: with v2, the one hierarchy; with v1, a directory a controller.

    ``own_namespace``: the process has left the host's cgroup namespace, so that its own cgroup is the top it can see.
    """
    options = mounts.parse_options(mount.options)
    attributes = options.set | _ATTRIBUTES
    target = files.make_directories(root, mount.target)
    if not hierarchies.legacy:
        if cgroup is None or not own_namespace:
            source = hierarchies.unified.directory if hierarchies.unified else ""
        else:
            source = cgroup.unified or ""
        _bind(source, target, attributes, mount.target)
        os.close(target)
        return
    # Writable until the directories in it are made.
    holder = mounts.make("tmpfs", "tmpfs", ("nosuid", "nodev", "noexec", "mode=755", "size=65536k"))
    mounts.attach(holder, target, mount.target)
    os.close(target)
    for hierarchy in hierarchies.legacy:
        name = ",".join(controller.removeprefix("name=") for controller in hierarchy.controllers)
        source = hierarchy.directory + (cgroup.path if cgroup else "")
        _bind_below(holder, name, source, attributes)
        if len(hierarchy.controllers) > 1:
            for controller in hierarchy.controllers:
                os.symlink(name, controller, dir_fd=holder)
    if hierarchies.unified is not None:
        source = hierarchies.unified.directory + (cgroup.path if cgroup else "")
        _bind_below(holder, "unified", source, attributes)
    if options.set & mounts.ATTR_RDONLY:
        mounts.change(holder, set=mounts.ATTR_RDONLY)
    os.close(holder)


def _bind_below(directory: int, name: str, source: str, attributes: int) -> None:
    os.mkdir(name, 0o755, dir_fd=directory)
    target = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    _bind(source, target, attributes, name)
    os.close(target)


def _bind(source: str, target: int, attributes: int, path: str) -> None:
    detached = mounts.clone(source)
    mounts.change(detached, set=attributes)
    mounts.attach(detached, target, path)
    os.close(detached)


_IN_CONTAINER = re.compile(r"/proc/(\d+)/root(/.*)")  # how a spec names a path in another container

# What may be mounted over in a /proc: files of plain numbers, which lxcfs and the like provide for containers. A mount
# anywhere else in there could hide what security rests on: attr/, sys/ (CVE-2019-16884).
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    )
)


class Root:
    """The root of the container ``spec``, in this process's new mount namespace.

    Its file system is mounted at once; then ``fill``, ``protect``, ``enter`` and ``close``, in this order. ``fd`` is a
    descriptor of it.
    """

    def __init__(self, spec: Spec, file_systems: FileSystems, place: int, outside: Sequence[int] = ()) -> None:
        """``place`` is a directory of this namespace's to mount upon, and becomes this object's. ``outside``: what has
        been made for it where it can be, when it is in a user namespace of its own."""
        self._spec = spec
        self._file_systems = file_systems
        self._place = place
        made = list(outside)
        self._roots = [made.pop(0) for _ in spec.rootfs] if outside else []
        # Copies of what is bound from the host are taken while this namespace's mounts are still tied to the host's:
        # a volume with the propagation "rslave" is to see what is mounted on the host later.
        self._binds = [made.pop(0) if outside else make_bind(mount) for mount in spec.mounts if mount.type == "bind"]
        for mount in spec.mounts:
            if outside and is_made_outside(mount):
                file_systems.offer(mount, made.pop(0))
        mounts.make_private()
        self._has_protected_proc = False
        self._masks = -1
        if spec.masked_paths:  # only of what is mounted can a part be bound: the root then lies upon them
            self._masks = file_systems.take(MASKS)
            mounts.attach(self._masks, place, spec.exec_dir)
        self.fd = self._mount()

    @property
    def has_own_devices(self) -> bool:
        """Whether /dev is made for this container: not when the user mounts something of his own there."""
        return any(is_device_directory(mount) for mount in self._spec.mounts)

    def fill(self, hierarchies: Hierarchies | None, cgroup: Cgroup | None) -> None:
        """Mounts everything inside it, and makes the devices. This process must be in its cgroup and namespaces."""
        for mount in self._spec.mounts:
            if mount.type == "bind":
                _attach_bind(self.fd, mount, self._binds.pop(0))
            elif mount.type == "cgroup":
                if hierarchies is not None:
                    own = any(each.kind == "cgroup" and each.pid is None for each in self._spec.namespaces)
                    mount_cgroups(self.fd, mount, hierarchies, cgroup, own_namespace=own)
            elif mount.type == "proc" and self._spec.readonly_proc:
                _attach_protected_proc(self.fd, mount, self._file_systems)
                self._has_protected_proc = True
            else:
                _attach_file_system(self.fd, mount, self._file_systems.take(mount))
        _write_sysctls(self._spec.sysctls)
        if self.has_own_devices:
            _bind_devices(self.fd)
        for device in self._spec.devices:
            if not (self._roots and self.has_own_devices and is_below_dev(device)):  # it has been made outside
                make_device(self.fd, device)

    def protect(self) -> None:
        """The last changes, after everything is in its place: hidden and read-only paths."""
        self._file_systems.discard()
        if self._masks >= 0:
            mask(self.fd, self._spec.masked_paths, self._masks)
            os.close(self._masks)
        paths = self._spec.readonly_paths
        if self._has_protected_proc:
            paths = tuple(path for path in paths if posixpath.dirname(path) != "/proc")
        make_read_only(self.fd, paths)

    def enter(self) -> None:
        """Makes it this process's "/"; the host's tree is gone from this namespace."""
        mounts.pivot(self.fd)
        os.close(self.fd)
        if self._spec.root_propagation not in ("", "private", "rprivate"):
            wanted = mounts.parse_options((self._spec.root_propagation,))
            recursive = wanted.propagation_recursive
            mounts.change(AT_FDCWD, propagation=wanted.propagation, recursive=recursive, path="/")

    def close(self) -> None:
        """From here on nothing can be made in a root that is to be read only."""
        if self._spec.readonly_root:
            mounts.change(AT_FDCWD, set=mounts.ATTR_RDONLY, path="/")

    def _mount(self) -> int:
        """The root's mounts, the first of which goes upon the place."""
        root = -1
        for detached, mount in zip(self._roots or map(make_root, self._spec.rootfs), self._spec.rootfs, strict=True):
            if root < 0:
                mounts.attach(detached, self._place, self._spec.exec_dir)
                os.close(self._place)
                root = detached
                continue
            target = files.make_directories(root, mount.target)
            mounts.attach(detached, target, mount.target or "/")
            os.close(target)
            os.close(detached)
        if root < 0:
            raise StartError("the container has no root file system")
        return root


def is_made_outside(mount: Mount) -> bool:
    """Whether it is beyond root of a user namespace: layers that belong to the machine's root, and device nodes. What
    is bound is made outside, too."""
    return mount.type == "overlay" or is_device_directory(mount)


def is_below_dev(device: Device) -> bool:
    return posixpath.normpath(device.path).startswith("/dev/")


def make_root(mount: Mount) -> int:
    """One of the root's mounts, detached. In a mount namespace of this process's own."""
    if mount.type == "bind":
        return make_bind(mount)
    return mounts.make_in_private_namespace(mount.type, mount.source, mount.options)


def make_bind(mount: Mount) -> int:
    """What is bound, detached, with all that its options say."""
    detached = _clone_source(mount)
    mounts.apply(detached, mounts.parse_options(mount.options))
    if mount.uids:
        with user_namespaces.made(mount.uids, mount.gids) as user_namespace:
            map_ids(detached, user_namespace, mount.source)
    return detached


def map_ids(detached: int, user_namespace: int, path: str) -> None:
    """Raises StartError where it cannot be."""
    try:
        mounts.map_ids(detached, user_namespace, path)
    except SyscallError as error:
        if error.errno != errno.EINVAL:
            raise
        raise StartError(f"the file system of {path} cannot show its files with other owners (idmap)") from None


def _clone_source(mount: Mount) -> int:
    recursive = mounts.parse_options(mount.options).recursive_bind
    container = _IN_CONTAINER.fullmatch(mount.source)
    try:
        if container:
            return _clone_from_container(int(container[1]), container[2], recursive=recursive)
        return mounts.pick_up(mount)
    except FileNotFoundError:
        raise StartError(f"bind source path does not exist: {mount.source}") from None
    except SyscallError as error:
        if error.errno == errno.ENOENT:
            raise StartError(f"bind source path does not exist: {mount.source}") from None
        raise


def proc_of(pid: int) -> int:
    """The /proc of the pid namespace that ``pid`` is in, of which it has one mounted; detached, without what is mounted
    on it. One can only be made by a process in there, which must not see any of ours. Raises StartError."""
    detached = _clone_from_container(pid, "/proc", recursive=False)
    try:
        own = os.stat(f"/proc/{pid}/ns/pid").st_ino
        is_root = mounts.file_system(detached) == mounts.PROC_MAGIC and os.fstat(detached).st_ino == _PROC_ROOT_INODE
        if is_root and os.stat("1/ns/pid", dir_fd=detached).st_ino == own:
            return detached
    except OSError:
        pass
    os.close(detached)
    raise StartError("the container whose processes are to be joined has no /proc of its own")


def _clone_from_container(pid: int, path: str, *, recursive: bool) -> int:
    """What another container has mounted at ``path``, such as its /dev/shm: only from inside can it be picked up."""
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        namespaces.join_of(pid, "mnt")
        try:
            return mounts.clone(path, recursive=recursive)
        finally:
            namespaces.join(own, namespaces.CLONE_NEWNS)
            os.fchdir(root)  # where the engine is in a chroot, its paths are those in there
            os.chroot(".")
    finally:
        os.close(root)
        os.close(own)


def _attach_bind(root: int, mount: Mount, detached: int) -> None:
    if mount.target == "/proc" and mounts.file_system(detached) != mounts.PROC_MAGIC:
        raise StartError(f"{mount.source!r} cannot be mounted on /proc because it is not of type proc")
    target = _open_target(root, mount, detached)
    if mounts.file_system(target) == mounts.PROC_MAGIC and mount.target not in _PROC_FILES:
        raise _inside_proc(mount)
    _attach(detached, target, mount)


def _attach_file_system(root: int, mount: Mount, detached: int) -> None:
    if mount.type in ("proc", "sysfs"):
        # Through a link it would end up elsewhere, and what is masked below /proc would stay open (CVE-2019-19921).
        _replace_by_directory(root, mount.target)
        _refuse_link(root, mount)
    elif is_device_directory(mount):
        _replace_by_directory(root, mount.target)
    _attach(detached, _open_target(root, mount, detached), mount)


def _attach_protected_proc(root: int, mount: Mount, file_systems: FileSystems) -> None:
    detached = file_systems.take_protected(mount)
    if detached is not None:
        _attach_file_system(root, mount, detached)
        return
    detached = file_systems.take(mount)
    kept = os.dup(detached)
    _attach_file_system(root, mount, detached)
    protect_proc(kept)
    os.close(kept)


def _attach(detached: int, target: int, mount: Mount) -> None:
    mounts.attach(detached, target, mount.target)
    os.close(target)
    os.close(detached)


def _open_target(root: int, mount: Mount, detached: int) -> int:
    """What ``detached`` is to be put upon, of its own kind: made where it is missing, and where that is wanted."""
    directory = stat.S_ISDIR(os.fstat(detached).st_mode)
    try:
        if not mount.create:
            target = files.open_in(root, mount.target)
        elif directory:
            target = files.make_directories(root, mount.target)
        else:
            target = files.make_file(root, mount.target)
    except SyscallError as error:
        if mount.target.startswith("/proc/"):  # where nothing can be made
            raise _inside_proc(mount) from None
        if error.errno == errno.ENOTDIR:
            raise _wrong_kind(mount) from None
        raise
    if stat.S_ISDIR(os.fstat(target).st_mode) != directory:
        raise _wrong_kind(mount)
    return target


def _inside_proc(mount: Mount) -> StartError:
    return StartError(f"{mount.target!r} cannot be mounted because it is inside /proc")


def _wrong_kind(mount: Mount) -> StartError:
    return StartError(
        f"cannot mount {mount.source!r} on {mount.target!r}: not a directory: "
        "are you trying to mount a directory onto a file (or vice-versa)?"
    )


def _replace_by_directory(root: int, path: str) -> None:
    """Where the image has a link or a file instead of /proc, /sys or /dev there is a directory, as in Docker."""
    name = path.removeprefix("/")
    if "/" in name:
        return
    try:
        found = os.stat(name, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=root)
        os.mkdir(name, 0o755, dir_fd=root)


def _refuse_link(root: int, mount: Mount) -> None:
    try:
        os.close(files.open_in(root, mount.target, resolve=files.RESOLVE_IN_ROOT | files.RESOLVE_NO_SYMLINKS))
    except SyscallError as error:
        if error.errno == errno.ENOENT:
            return
        raise StartError(f"file system {mount.type!r} must be mounted on an ordinary directory") from None


def _bind_devices(root: int) -> None:
    """Where nodes could not be made, in a user namespace, the host's own are bound to the files in their places."""
    directory = files.open_in(root, "/dev", os.O_PATH | os.O_DIRECTORY)
    for name, _, _ in DEVICES:
        if stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            _bind_node(root, f"/dev/{name}", f"/dev/{name}")
    os.close(directory)


def make_device(root: int, device: Device) -> None:
    """A node like the host's ``source``, which the cgroup's device rules allow to be used."""
    kind, number = device.kind, device.number
    if not kind:
        try:
            status = os.stat(device.source)
        except OSError as error:
            raise StartError(f"error gathering device information for {device.source!r}: {reason(error)}") from None
        if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
            raise StartError(f"error gathering device information for {device.source!r}: not a device node")
        kind, number = stat.S_IFMT(status.st_mode), status.st_rdev
    parent, _, name = device.path.rpartition("/")
    directory = files.make_directories(root, parent or "/")
    try:
        os.mknod(name, kind | device.mode, number, dir_fd=directory)
        if device.uid or device.gid:
            os.chown(name, device.uid, device.gid, dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        return
    except PermissionError:  # in a user namespace
        _bind_node(root, device.source, device.path)
    finally:
        os.close(directory)


def _bind_node(root: int, source: str, target: str) -> None:
    file = files.make_file(root, target)
    node = mounts.clone(source)
    mounts.attach(node, file, target)
    os.close(node)
    os.close(file)


def _write_sysctls(sysctls: dict[str, str]) -> None:
    """Through a /proc of our own that nobody else can reach: that of the container may be covered by something else."""
    if not sysctls:
        return
    proc = _make_of_kernel(_PROC)
    resolve = files.RESOLVE_BENEATH | files.RESOLVE_NO_XDEV | files.RESOLVE_NO_SYMLINKS
    for name, value in sysctls.items():
        try:
            fd = files.open_in(proc, "sys/" + name.replace(".", "/"), os.O_WRONLY, resolve)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise StartError(f"sysctl {name!r} cannot be set to {value!r}: {reason(error)}") from None
    os.close(proc)


# A process's terminal: made on the container's own devpts, by the process that is already inside.
#
# The container may have put anything below /dev, so nothing there is trusted by its name: the multiplexer must be the
# character device 5:2 on a devpts, and the terminal itself is opened from its master, not by a path (CVE-2025-52565).

_MULTIPLEXER = os.makedev(5, 2)


class Terminal(NamedTuple):
    """The two ends, as descriptors."""

    master: int
    slave: int


def open_terminal(root: int, size: tuple[int, int] | None) -> Terminal:
    """A new terminal on the devpts below the descriptor ``root``. ``size`` is (rows, columns)."""
    where = files.open_in(root, "/dev/pts/ptmx", resolve=files.RESOLVE_IN_ROOT | files.RESOLVE_NO_SYMLINKS)
    try:
        status = os.fstat(where)
        if (
            not stat.S_ISCHR(status.st_mode)
            or status.st_rdev != _MULTIPLEXER
            or mounts.file_system(where) != mounts.DEVPTS_MAGIC
        ):
            raise StartError("cannot make a terminal: /dev/pts/ptmx in the container is not a terminal multiplexer")
    finally:
        os.close(where)
    # It was looked at without being opened, since opening an unknown device may do something. What is opened now is
    # looked at again: TIOCGPTPEER fails on anything else.
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK
    master = files.open_in(root, "/dev/pts/ptmx", flags, files.RESOLVE_IN_ROOT | files.RESOLVE_NO_SYMLINKS)
    if mounts.file_system(master) != mounts.DEVPTS_MAGIC:
        raise StartError("cannot make a terminal: /dev/pts/ptmx in the container was exchanged")
    terminal.unlock(master)
    slave = terminal.open_peer(master)
    if size is not None:
        terminal.set_size(slave, *size)
    return Terminal(master, slave)


def mount_console(root: int, slave: int) -> None:
    """/dev/console, as a bind mount of the terminal on a file that is made for it, unless the user mounted one."""
    device_directory = files.open_in(root, "/dev", os.O_PATH | os.O_DIRECTORY)
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        target = os.open("console", flags, 0o600, dir_fd=device_directory)
    except FileExistsError:
        return
    except OSError as error:
        raise SyscallError(error.errno or 0, "make", "/dev/console") from error
    finally:
        os.close(device_directory)
    mount = mounts.clone("", directory=slave)
    mounts.attach(mount, target, "/dev/console")
    os.close(mount)
    os.close(target)


def adopt_terminal(slave: int) -> None:
    """Makes the terminal this session's own, and its standard streams."""
    terminal.make_controlling(slave)
    take_streams(slave)


def take_streams(slave: int) -> None:
    """Makes the terminal the standard streams."""
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.close(slave)
