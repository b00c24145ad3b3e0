"""From mount points to the mounts that the runtime makes inside the container."""

import os
import stat
from collections.abc import Sequence

import msgspec

from wherry.linux import host_mounts, paths
from wherry.linux.mounts import Mount
from wherry.model.container import Container
from wherry.model.errors import EngineError, InvalidParameter
from wherry.model.host import MountRequest, TmpfsOptions
from wherry.model.volume import MountPoint
from wherry.storage.store import Store

_TMPFS = ("noexec", "nosuid", "nodev")  # Docker's for --tmpfs and --mount type=tmpfs
_HOST_FILES = ("resolv.conf", "hostname", "hosts")


def write_mounts(container: Container, store: Store) -> list[Mount]:
    """All that the user has mounted, in the order to mount it: what is nearer to the root first.

    Makes the folder of a ``-v`` whose source is missing, as Docker does. Raises InvalidParameter when a source is
    gone.
    """
    mounts = [_mount(point, store) for point in container.mounts]
    for target, options in (container.host_config.tmpfs or {}).items():
        given = tuple(option for option in options.split(",") if option)
        mounts.append(Mount("tmpfs", "tmpfs", os.path.normpath(target), (*_TMPFS, *given)))
    return sorted(mounts, key=_depth)


def with_host_files(mounts: Sequence[Mount], directory: str) -> list[Mount]:
    """These mounts and, where none is in its place, each of the files that the engine writes in a container's folder.

    They lie upon what the user has mounted at /etc.
    """
    taken = {mount.target for mount in mounts}
    own = [
        Mount("bind", f"{directory}/{name}", f"/etc/{name}", ("bind", "rprivate"), create="file")
        for name in _HOST_FILES
        if f"/etc/{name}" not in taken and os.path.exists(f"{directory}/{name}")  # written at the first start
    ]
    return sorted((*own, *mounts), key=_depth)


def _depth(mount: Mount) -> int:
    return mount.target.count("/")


def root_of(path: str) -> tuple[Mount, ...]:
    """A folder as a root of its own."""
    return (Mount("bind", path, "", ("bind", "rprivate")),)


def _mount(point: MountPoint, store: Store) -> Mount:
    match point.type:
        case "bind":
            return _bind(point)
        case "volume":
            return _volume(point)
        case "image":
            view = store.snapshots.view(store.images.get(point.source).chain_id, point.destination)
            asked = point.request.image_options if point.request else None
            return msgspec.structs.replace(view, subpath=asked.subpath) if asked else view
    return _tmpfs(point.destination, point.request or MountRequest(type="tmpfs"))


def _bind(point: MountPoint) -> Mount:
    options = point.request.bind_options if point.request else None
    if not os.path.exists(point.source):
        if point.request and not (options and options.create_mountpoint):
            raise InvalidParameter(
                f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
            )
        try:
            os.makedirs(point.source, exist_ok=True)
        except OSError as error:
            raise EngineError(
                f"error while creating mount source path '{point.source}': "
                f"mkdir {point.source}: {os.strerror(error.errno or 0).lower()}"
            ) from None
    _check_propagation(point)
    recursive = not (options and options.non_recursive)
    # What is read-only on the host stays so: a bind that may be written to has no option that says it.
    access = []
    if not point.rw:
        access = ["rro"] if recursive and not (options and options.read_only_non_recursive) else ["ro"]
    return Mount(
        "bind",
        point.source,
        point.destination,
        ("rbind" if recursive else "bind", point.propagation or "rprivate", *access),
        create=_kind(point.source),
    )


def _check_propagation(point: MountPoint) -> None:
    """Nothing is ever propagated from or to a mount of the host that is private: who asks for it is to know."""
    wanted = {"shared": ("shared",), "slave": ("shared", "master")}.get(point.propagation.removeprefix("r"))
    if not wanted:
        return
    place, found = host_mounts.propagation(point.source)
    if found.isdisjoint(wanted):
        kind = "shared" if wanted == ("shared",) else "shared or slave"
        raise EngineError(f"path {point.source} is mounted on {place} but it is not a {kind} mount")


def _volume(point: MountPoint) -> Mount:
    """One that is ready: its files are at the point's source."""
    asked = point.request.volume_options if point.request else None
    subpath = asked.subpath if asked else ""
    options = ("rbind", "rprivate", *([] if point.rw else ["rro"]))
    return Mount("bind", point.source, point.destination, options, _kind(point.source, subpath), subpath)


def _tmpfs(target: str, request: MountRequest) -> Mount:
    asked = request.tmpfs_options or TmpfsOptions()
    options: list[str] = list(_TMPFS)
    if asked.size_bytes:
        options.append(f"size={asked.size_bytes}")
    if asked.mode:
        options.append(f"mode={asked.mode:o}")
    options += ["=".join(option) for option in asked.options]
    if request.read_only:
        options.append("ro")
    return Mount("tmpfs", "tmpfs", target, tuple(options))


def _kind(source: str, subpath: str = "") -> str:
    """What has to be made where the target is missing."""
    try:
        if not subpath:
            return "dir" if stat.S_ISDIR(os.stat(source).st_mode) else "file"
        root = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            part = paths.open_in(root, subpath)
        finally:
            os.close(root)
        try:
            return "dir" if stat.S_ISDIR(os.fstat(part).st_mode) else "file"
        finally:
            os.close(part)
    except OSError as error:
        what = f"access path {subpath} of {source}" if subpath else f"mount {source}"
        raise InvalidParameter(f"cannot {what}: {os.strerror(error.errno or 0)}") from None
