"""The container's root: built with all its mounts in the container's own mount namespace, then made "/".

Whoever wrote the image chose every name in it, and another container may be changing a shared volume right now. So each
target is opened inside the root first, links and all, and the mount is then put upon that descriptor (see
``linux.mounts`` and ``linux.paths``); no path is resolved twice.
"""

import errno
import os
import re
import stat

from wherry.linux import mounts, namespaces, paths
from wherry.linux.cgroups import Cgroup, Hierarchies
from wherry.linux.errors import SyscallError
from wherry.linux.mounts import Mount
from wherry.linux.syscalls import AT_FDCWD
from wherry.runtime.cgroup_mount import mount_cgroups
from wherry.runtime.errors import StartError, reason
from wherry.runtime.spec import Device, Spec
from wherry.runtime.usual import COVER, DEVICES, FileSystems, is_device_directory

_NULL = os.makedev(1, 3)
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

    def __init__(self, spec: Spec, file_systems: FileSystems) -> None:
        self._spec = spec
        self._file_systems = file_systems
        # Copies of what is bound from the host are taken while this namespace's mounts are still tied to the host's:
        # a volume with the propagation "rslave" is to see what is mounted on the host later.
        self._binds = [_clone_source(mount) for mount in spec.mounts if mount.type == "bind"]
        mounts.make_private()
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
            else:
                _attach_file_system(self.fd, mount, self._file_systems.take(mount))
        _write_sysctls(self._spec.sysctls)
        if self.has_own_devices:
            _bind_devices(self.fd)
        for device in self._spec.devices:
            _make_device(self.fd, device)

    def protect(self) -> None:
        """The last changes, after everything is in its place: hidden and read-only paths."""
        null = _open_null()
        for path in self._spec.masked_paths:
            _mask(self.fd, path, null, self._file_systems)
        self._file_systems.discard()
        os.close(null)
        for path in self._spec.readonly_paths:
            _make_read_only(self.fd, path)

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
        """The root's mounts, the first of which goes upon a directory that is ours: exec_dir, in this namespace."""
        root = -1
        for mount in self._spec.rootfs:
            if mount.type == "bind":
                detached = _clone_source(mount)
                mounts.apply(detached, mounts.parse_options(mount.options))
            else:
                detached = mounts.make_in_private_namespace(mount.type, mount.source, mount.options)
            if root < 0:
                target = os.open(self._spec.exec_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                target = paths.make_directories(root, mount.target)
            mounts.attach(detached, target, mount.target or "/")
            os.close(target)
            if root < 0:
                root = detached
            else:
                os.close(detached)
        if root < 0:
            raise StartError("the container has no root file system")
        return root


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


def _clone_from_container(pid: int, path: str, *, recursive: bool) -> int:
    """What another container has mounted at ``path``, such as its /dev/shm: only from inside can it be picked up."""
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.join_of(pid, "mnt")
        try:
            return mounts.clone(path, recursive=recursive)
        finally:
            namespaces.join(own, namespaces.CLONE_NEWNS)
    finally:
        os.close(own)


def _attach_bind(root: int, mount: Mount, detached: int) -> None:
    if mount.target == "/proc" and mounts.file_system(detached) != mounts.PROC_MAGIC:
        raise StartError(f"{mount.source!r} cannot be mounted on /proc because it is not of type proc")
    target = _open_target(root, mount, detached)
    if mounts.file_system(target) == mounts.PROC_MAGIC and mount.target not in _PROC_FILES:
        raise _inside_proc(mount)
    mounts.apply(detached, mounts.parse_options(mount.options))
    _attach(detached, target, mount)


def _attach_file_system(root: int, mount: Mount, detached: int) -> None:
    if mount.type in ("proc", "sysfs"):
        # Through a link it would end up elsewhere, and what is masked below /proc would stay open (CVE-2019-19921).
        _refuse_link(root, mount)
    if mount.subpath:
        detached = mounts.part(detached, mount)
    _attach(detached, _open_target(root, mount, detached), mount)


def _attach(detached: int, target: int, mount: Mount) -> None:
    mounts.attach(detached, target, mount.target)
    os.close(target)
    os.close(detached)


def _open_target(root: int, mount: Mount, detached: int) -> int:
    """What ``detached`` is to be put upon, of its own kind: made where it is missing, and where that is wanted."""
    directory = stat.S_ISDIR(os.fstat(detached).st_mode)
    try:
        if not mount.create:
            target = paths.open_in(root, mount.target)
        elif directory:
            target = paths.make_directories(root, mount.target)
        else:
            target = paths.make_file(root, mount.target)
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


def _refuse_link(root: int, mount: Mount) -> None:
    try:
        os.close(paths.open_in(root, mount.target, resolve=paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_SYMLINKS))
    except SyscallError as error:
        if error.errno == errno.ENOENT:
            return
        raise StartError(f"file system {mount.type!r} must be mounted on an ordinary directory") from None


def _bind_devices(root: int) -> None:
    """Where nodes could not be made, in a user namespace, the host's own are bound to the files in their places."""
    directory = paths.open_in(root, "/dev", os.O_PATH | os.O_DIRECTORY)
    for name, _, _ in DEVICES:
        if stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            _bind_node(root, f"/dev/{name}", f"/dev/{name}")
    os.close(directory)


def _make_device(root: int, device: Device) -> None:
    """A node like the host's ``source``, which the cgroup's device rules allow to be used."""
    try:
        status = os.stat(device.source)
    except OSError as error:
        raise StartError(f"error gathering device information for {device.source!r}: {reason(error)}") from None
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise StartError(f"error gathering device information for {device.source!r}: not a device node")
    parent, _, name = device.path.rpartition("/")
    directory = paths.make_directories(root, parent or "/")
    try:
        os.mknod(name, stat.S_IFMT(status.st_mode) | device.mode, status.st_rdev, dir_fd=directory)
    except FileExistsError:
        return
    except PermissionError:  # in a user namespace
        _bind_node(root, device.source, device.path)
    finally:
        os.close(directory)


def _bind_node(root: int, source: str, target: str) -> None:
    file = paths.make_file(root, target)
    node = mounts.clone(source)
    mounts.attach(node, file, target)
    os.close(node)
    os.close(file)


def _write_sysctls(sysctls: dict[str, str]) -> None:
    """Through a /proc of our own that nobody else can reach: that of the container may be covered by something else."""
    if not sysctls:
        return
    proc = mounts.make("proc", "proc")
    resolve = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_XDEV | paths.RESOLVE_NO_SYMLINKS
    for name, value in sysctls.items():
        try:
            fd = paths.open_in(proc, "sys/" + name.replace(".", "/"), os.O_WRONLY, resolve)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise StartError(f"sysctl {name!r} cannot be set to {value!r}: {reason(error)}") from None
    os.close(proc)


def _open_null() -> int:
    """The host's /dev/null, by its numbers and not by its name (CVE-2025-31133)."""
    null = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    status = os.fstat(null)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _NULL:
        os.close(null)
        raise StartError("the host's /dev/null is not the null device; refusing to hide paths with it")
    return null


def _mask(root: int, path: str, null: int, file_systems: FileSystems) -> None:
    """Hides a file behind /dev/null, a directory behind an empty read-only file system."""
    target = _open_if_there(root, path)
    if target is None:
        return
    is_directory = stat.S_ISDIR(os.fstat(target).st_mode)
    cover = file_systems.take(COVER) if is_directory else mounts.clone("", directory=null)
    mounts.attach(cover, target, path)
    os.close(cover)
    os.close(target)


def _make_read_only(root: int, path: str) -> None:
    target = _open_if_there(root, path)
    if target is None:
        return
    cover = mounts.clone("", recursive=True, directory=target)
    mounts.change(cover, set=mounts.ATTR_RDONLY)
    mounts.attach(cover, target, path)
    os.close(cover)
    os.close(target)


def _open_if_there(root: int, path: str) -> int | None:
    try:
        return paths.open_in(root, path)
    except SyscallError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return None
        raise
