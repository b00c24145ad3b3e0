"""From mount points to the mounts that the runtime makes inside the container."""

import os
import stat

from wherry.linux import paths
from wherry.linux.mounts import Mount
from wherry.model.container import Container
from wherry.model.errors import InvalidParameter
from wherry.model.host import MountRequest, TmpfsOptions
from wherry.model.volume import MountPoint
from wherry.storage.store import Store

_TMPFS = ("noexec", "nosuid", "nodev")  # Docker's for --tmpfs and --mount type=tmpfs
_VALUELESS = ("exec", "noexec", "suid", "nosuid", "dev", "nodev", "ro", "rw")


def write_mounts(container: Container, store: Store) -> list[Mount]:
    """All that the user has mounted, in the order to mount it: what is nearer to the root first.

    Makes the folder of a ``-v`` whose source is missing, as Docker does. Raises InvalidParameter when a source is
    gone.
    """
    mounts = [_mount(point, store) for point in container.mounts]
    for target, options in (container.host_config.tmpfs or {}).items():
        given = tuple(option for option in options.split(",") if option)
        mounts.append(Mount("tmpfs", "tmpfs", os.path.normpath(target), (*_TMPFS, *given)))
    return sorted(mounts, key=lambda mount: mount.target.count("/"))


def root_of(name: str, store: Store) -> tuple[Mount, ...]:
    """A volume as a root of its own. Raises NotFound."""
    return (_volume(MountPoint(type="volume", destination="", name=name), store),)


def _mount(point: MountPoint, store: Store) -> Mount:
    match point.type:
        case "bind":
            return _bind(point)
        case "volume":
            return _volume(point, store)
        case "image":
            return store.snapshots.view(store.images.get(point.source).chain_id, point.destination)
    return _tmpfs(point.destination, point.request or MountRequest(type="tmpfs"))


def _bind(point: MountPoint) -> Mount:
    options = point.request.bind_options if point.request else None
    if not os.path.lexists(point.source):
        if point.request and not (options and options.create_mountpoint):
            raise InvalidParameter(
                f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
            )
        os.makedirs(point.source, exist_ok=True)
    recursive = not (options and options.non_recursive)
    access = ["rw"]
    if not point.rw:
        access = ["rro"] if recursive and not (options and options.read_only_non_recursive) else ["ro"]
    return Mount(
        "bind",
        point.source,
        point.destination,
        ("rbind" if recursive else "bind", point.propagation or "rprivate", *access),
        create=_kind(point.source),
    )


def _volume(point: MountPoint, store: Store) -> Mount:
    local = point.driver in ("", "local")
    options = store.volumes.get(point.name).options if local else {}
    flags = [option for option in options.get("o", "").split(",") if option]
    if "device" in options and "bind" not in flags and "rbind" not in flags:
        return Mount(options["type"], options["device"], point.destination, (*flags, *([] if point.rw else ["ro"])))
    source = options.get("device") or (store.volumes.path(point.name) if local else point.source)
    asked = point.request.volume_options if point.request else None
    subpath = asked.subpath if asked else ""
    access = "rw" if point.rw and "ro" not in flags else "rro"
    return Mount("bind", source, point.destination, ("rbind", "rprivate", access), _kind(source, subpath), subpath)


def _tmpfs(target: str, request: MountRequest) -> Mount:
    asked = request.tmpfs_options or TmpfsOptions()
    options: list[str] = list(_TMPFS)
    if asked.size_bytes:
        options.append(f"size={asked.size_bytes}")
    if asked.mode:
        options.append(f"mode={asked.mode:o}")
    for option in asked.options:
        if len(option) == 1 and option[0] not in _VALUELESS:
            raise InvalidParameter(f'invalid mount config for type "tmpfs": invalid option: {option[0]}')
        options.append("=".join(option))
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
