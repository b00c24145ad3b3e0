"""What a container in a user namespace of its own cannot have made from inside, made for it by its monitor.

Root in there may neither pick up what is bound from the host, nor mount layers that belong to the machine's root, nor
make device nodes. So the monitor, which is root outside, makes all of these detached and hands them over.

Files keep their ids: a layer, a volume and what a container writes have on the disk the ids that they have inside, and
each mount of them says who that is outside. Nothing is copied or given another owner, all containers share the same
layers, and an image that is committed from there is like any other.
"""

import contextlib
import errno
import os
from collections.abc import Iterator

import msgspec

from wherry.linux import mounts, namespaces, user_namespaces
from wherry.linux.mounts import Mount
from wherry.linux.syscalls import SyscallError
from wherry.runtime import identity
from wherry.runtime.ipc import StartError
from wherry.runtime.rootfs import is_below_dev, is_device_directory, is_made_outside, make_bind, make_device, map_ids
from wherry.runtime.rootfs import make as make_file_system
from wherry.runtime.spec import Spec

_DESCRIPTORS_AT_MOST = 240  # beside one packet; the kernel allows 253


def root(spec: Spec) -> tuple[int, int]:
    """Who root inside is outside: uid and gid; -1 where there is no difference."""
    return user_namespaces.outside(0, spec.uids), user_namespaces.outside(0, spec.gids)


def cannot_fork(error: SyscallError) -> str:
    """Why there is no first process of a container."""
    if error.errno == errno.ENOSPC:
        return (
            f"{error}: no more namespaces may be made: see sysctl user.max_user_namespaces and the others of its kind"
        )
    if error.errno == errno.EPERM:
        return f"{error}: an engine in a chroot can make no user namespace"
    return str(error)


@contextlib.contextmanager
def made_for(spec: Spec, pid: int) -> Iterator[list[int]]:
    """Gives the process, which is in a new user namespace, its ids, and what it may not take itself; descriptors of
    what has been made, in the order of ``is_made_outside``. Raises SyscallError and StartError."""
    user_namespaces.write_maps(pid, spec.uids, spec.gids)
    # With CAP_SYS_RESOURCE, which resets how low it may be set later: it would be the monitor's own.
    identity.set_oom_score(spec.process.oom_score_adj, pid)
    identity.raise_limits(spec.process, pid)
    user_namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    made: list[int] = []
    try:
        made = _make_all(spec, user_namespace)
        yield made
    finally:
        for fd in (user_namespace, *made):
            os.close(fd)


def _make_all(spec: Spec, user_namespace: int) -> list[int]:
    """The root's mounts, then what is bound, then the rest, each in the spec's order; in the user namespace that is
    open. Raises SyscallError and StartError, and then nothing is left."""
    made: list[int] = []
    try:
        binds = [_bind(mount, user_namespace) for mount in spec.mounts if mount.type == "bind"]
        made += binds
        with _private_namespace(), _creating_as_root(spec):
            roots = [_make_layers(mount, user_namespace) for mount in spec.rootfs]
            made[:0] = roots
            made += [_make(mount, spec, user_namespace) for mount in spec.mounts if is_made_outside(mount)]
        if len(made) > _DESCRIPTORS_AT_MOST:
            raise StartError(f"a container in a user namespace can have {_DESCRIPTORS_AT_MOST} mounts at most")
    except BaseException:
        for fd in made:
            os.close(fd)
        raise
    return made


def _bind(mount: Mount, user_namespace: int) -> int:
    detached = make_bind(mount)
    if mount.idmap and not mount.uids:
        map_ids(detached, user_namespace, mount.source)
    return detached


@contextlib.contextmanager
def _private_namespace() -> Iterator[None]:
    """In a mount namespace that is this process's alone and cut off from others."""
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        try:
            mounts.make_private()
            yield
        finally:
            namespaces.join(home, namespaces.CLONE_NEWNS)
    finally:
        os.close(home)


@contextlib.contextmanager
def _creating_as_root(spec: Spec) -> Iterator[None]:
    """What is made belongs to root inside, with the modes that it is made with."""
    umask = os.umask(0)
    try:
        with user_namespaces.creating_as(*root(spec)):
            yield
    finally:
        os.umask(umask)


def _make(mount: Mount, spec: Spec, user_namespace: int) -> int:
    if mount.type == "overlay":
        detached = _make_layers(mount, user_namespace)
        return mounts.part(detached, mount) if mount.subpath else detached
    detached = make_file_system(mount)
    for device in spec.devices:
        if is_device_directory(mount) and is_below_dev(device):
            owned = msgspec.structs.replace(
                device,
                path=os.path.normpath(device.path).removeprefix("/dev"),
                uid=user_namespaces.outside(device.uid, spec.uids),
                gid=user_namespaces.outside(device.gid, spec.gids),
            )
            make_device(detached, owned)
    return detached


def _make_layers(mount: Mount, user_namespace: int) -> int:
    """An overlay whose directories are all mounted upon themselves, with the container's ids."""
    if mount.type != "overlay":
        return _bind(mount, user_namespace)
    for path in _directories(mount):
        detached = mounts.clone(path)
        try:
            map_ids(detached, user_namespace, path)
            target = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            mounts.attach(detached, target, path)
            os.close(target)
        finally:
            os.close(detached)
    try:
        return mounts.make_in_private_namespace(mount.type, mount.source, mount.options)
    except SyscallError as error:
        if error.errno != errno.EINVAL:
            raise
        raise StartError(f"an image's layers cannot be shown with other owners before Linux 5.19: {error}") from None


def _directories(mount: Mount) -> Iterator[str]:
    """The layers, and what holds the upper and the work directory: for overlayfs these have to be on one mount."""
    upper = ""
    for option in mount.options:
        key, _, value = option.partition("=")
        if key == "lowerdir":
            yield from mounts.split_directories(value)
        elif key == "upperdir":
            upper = value
        elif key == "workdir":
            yield os.path.commonpath((upper, value))
