"""What a container has mounted: from -v, --mount, --volumes-from, --tmpfs and the image's VOLUME to mount points.

Each is settled when the container is made and kept with it, so that a later start mounts the same things again.
"""

import errno
import json
import os
import posixpath
import stat
from collections.abc import Iterable, Sequence

import msgspec

from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.engine.container.idmaps import INSIDE, OWNER, wanted
from wherry.linux import files, host_mounts
from wherry.linux.mounts import Mount
from wherry.linux.user_namespaces import Extent
from wherry.model.container import (
    BindOptions,
    Container,
    ContainerConfig,
    HostConfig,
    MountPoint,
    MountRequest,
    TmpfsOptions,
)
from wherry.storage.store import Store

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_ACCESS = ("ro", "rw")
_LABELS = ("z", "Z")
_IDMAP = ("idmap",)
_CONSISTENCY = ("cached", "delegated", "consistent", "default")
_OPTIONS = (_ACCESS, _LABELS, _PROPAGATIONS, _CONSISTENCY, _IDMAP, ("nocopy",))  # one of each kind
_TMPFS_OPTIONS = frozenset((
    "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "remount", "mand",
    "nomand", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
    "bind", "rbind", "unbindable", "runbindable", *_PROPAGATIONS, "size", "mode", "uid", "gid", "nr_inodes",
    "nr_blocks", "mpol",
))  # fmt: skip
_TYPES = ("bind", "volume", "tmpfs", "image")


def parse_bind(text: str) -> MountPoint:
    """A ``-v``: "source:destination:options", "source:destination" or "destination".

    Raises EngineError: what is wrong here, Docker answers with 500, and clients know it by that.
    """
    invalid = f"invalid volume specification: '{text}'"
    parts = text.split(":")
    # One without a source takes no options: "/data:ro" is not a volume at /data.
    if len(parts) > 3 or not all(parts) or (len(parts) == 2 and _is_mode(parts[1])):
        raise EngineError(invalid)
    *sources, destination = parts[:2]
    source = sources[0] if sources else ""
    mode = parts[2] if len(parts) == 3 else ""
    if mode and not _is_mode(mode):
        raise EngineError(f"invalid mode: {mode}")
    kind = "bind" if source.startswith("/") else "volume"
    invalid += f': invalid mount config for type "{kind}"'
    try:
        destination = _destination(destination, invalid)
    except InvalidParameter as error:
        raise EngineError(error.message) from None
    options = mode.split(",") if mode else []
    propagation = next((option for option in options if option in _PROPAGATIONS), "")
    if kind == "volume" and propagation:
        raise EngineError(f"{invalid}: field BindOptions must not be specified")
    if kind == "volume" and "idmap" in options:
        raise EngineError(f"{invalid}: idmap is for binds: a volume has the container's ids")
    if kind == "bind" and "nocopy" in options:
        raise EngineError(f"{invalid}: field VolumeOptions must not be specified")
    return MountPoint(
        type=kind,
        destination=destination,
        source=os.path.normpath(source) if kind == "bind" else "",
        name=source if kind == "volume" else "",
        mode=mode if kind == "bind" else mode or "z",
        rw="ro" not in options,
        propagation=(propagation or "rprivate") if kind == "bind" else "",
        copy=kind == "volume" and "nocopy" not in options,
        idmap=OWNER if "idmap" in options else "",
    )


def parse_request(request: MountRequest) -> MountPoint:
    """A ``--mount``. Raises InvalidParameter in Docker's words."""
    kind = request.type
    if kind not in _TYPES:
        raise InvalidParameter(f'invalid mount config for type "{kind}": mount type unknown')
    invalid = f'invalid mount config for type "{kind}"'
    if not request.target:
        raise InvalidParameter(f"{invalid}: field Target must not be empty")
    for name, value, type_of in (
        ("BindOptions", request.bind_options, "bind"),
        ("VolumeOptions", request.volume_options, "volume"),
        ("ImageOptions", request.image_options, "image"),
        ("TmpfsOptions", request.tmpfs_options, "tmpfs"),
    ):
        if value is not None and type_of != kind:
            raise InvalidParameter(f"{invalid}: field {name} must not be specified")
    point = MountPoint(
        type=kind,
        destination=_destination(request.target, invalid),
        rw=not request.read_only and kind != "image",
        request=request,
    )
    match kind:
        case "bind":
            _settle_bind(point, request, invalid)
        case "volume":
            options = request.volume_options
            point.name = request.source
            point.driver = options.driver_config.name if options and options.driver_config else ""
            point.copy = not (options and options.no_copy)
            point.mode = "z"
            if request.read_only and not request.source:
                raise InvalidParameter(f"{invalid}: must not set ReadOnly mode when using anonymous volumes")
            if options and options.subpath:
                if not request.source:
                    raise InvalidParameter(f"{invalid}: must not set Subpath when using anonymous volumes")
                _check_subpath(options.subpath, invalid)
        case "image":
            if not request.source:
                raise InvalidParameter(f"{invalid}: field Source must not be empty")
            if request.image_options and request.image_options.subpath:
                _check_subpath(request.image_options.subpath, invalid)
        case "tmpfs":
            if request.source:
                raise InvalidParameter(f"{invalid}: field Source must not be specified")
            for option in request.tmpfs_options.options if request.tmpfs_options else ():
                if not 1 <= len(option) <= 2:
                    raise InvalidParameter(f"{invalid}: invalid option array length")
                if option[0] not in ("exec", "noexec"):
                    raise InvalidParameter(f"{invalid}: invalid option: {option[0]}")
    return point


def _settle_bind(point: MountPoint, request: MountRequest, invalid: str) -> None:
    options = request.bind_options
    if not request.source:
        raise InvalidParameter(f"{invalid}: field Source must not be empty")
    if not request.source.startswith("/"):
        raise InvalidParameter(f"{invalid}: invalid mount path: '{request.source}' mount path must be absolute")
    if options and options.propagation and options.propagation not in _PROPAGATIONS:
        raise InvalidParameter(f"{invalid}: invalid propagation mode: {options.propagation}")
    if not os.path.exists(request.source) and not (options and options.create_mountpoint):
        raise InvalidParameter(f"{invalid}: bind source path does not exist: {request.source}")
    point.idmap = wanted(options.id_map) if options else ""
    point.source = os.path.normpath(request.source)
    point.propagation = (options.propagation if options else "") or "rprivate"


def settle(config: ContainerConfig, host: HostConfig, inherited: Iterable[MountPoint]) -> list[MountPoint]:
    """Every mount point of a container, the nearest to the root first.

    ``inherited`` are those of --volumes-from, which what the user says here replaces; the image's VOLUMEs fill up
    what is left. Raises InvalidParameter for a destination that is said twice.
    """
    points = {point.destination: point for point in inherited}
    said: set[str] = set()

    def add(point: MountPoint) -> None:
        if point.destination in said:
            raise InvalidParameter(f"Duplicate mount point: {point.destination}")
        said.add(point.destination)
        points[point.destination] = point

    for text in host.binds or ():
        point = parse_bind(text)
        if point.type == "volume" and host.volume_driver:
            point.driver = host.volume_driver
        add(point)
    for request in host.mounts or ():
        add(parse_request(request))
    for target, options in (host.tmpfs or {}).items():
        destination = _destination(target)
        check_tmpfs(options)
        if destination in said:
            raise InvalidParameter(f"Duplicate mount point: {destination}")
        said.add(destination)
        points.pop(destination, None)
    for target in config.volumes or {}:
        destination = _destination("/" + target)  # of a VOLUME without a slash in front, too
        if destination not in points and destination not in said:
            points[destination] = MountPoint(
                type="volume", destination=destination, driver=host.volume_driver, copy=True, anonymous=True
            )
    return sorted(points.values(), key=lambda point: (point.destination.count("/"), point.destination))


def parse_volumes_from(text: str) -> tuple[str, str]:
    """A ``--volumes-from``: the name of a container, and the mode."""
    if not text:
        raise InvalidParameter("volumes-from specification cannot be an empty string")
    name, _, mode = text.partition(":")
    if mode and (not _is_mode(mode) or {"nocopy", *_PROPAGATIONS}.intersection(mode.split(","))):
        raise InvalidParameter(f"invalid mode: {mode}")
    return name, mode


def inherit(points: Iterable[MountPoint], mode: str) -> list[MountPoint]:
    """The mount points of another container, for --volumes-from; "ro" makes them read-only here. No tmpfs."""
    read_only = "ro" in mode.split(",")
    return [
        msgspec.structs.replace(point, rw=point.rw and not read_only, copy=False, mode="")
        for point in points
        if point.type != "tmpfs"
    ]


def describe(point: MountPoint) -> dict[str, object]:
    """The API's MountPoint."""
    found: dict[str, object] = {"Type": point.type}
    if point.name:
        found["Name"] = point.name
    found |= {"Source": point.source, "Destination": point.destination}
    if point.driver:
        found["Driver"] = point.driver
    return found | {"Mode": point.mode, "RW": point.rw, "Propagation": point.propagation}


def _check_subpath(subpath: str, invalid: str) -> None:
    if subpath.startswith("/") or ".." in posixpath.normpath(subpath).split("/"):
        raise InvalidParameter(f"{invalid}: subpath must be a relative path within the volume")


def _destination(path: str, invalid: str = "") -> str:
    """The path, cleaned. ``invalid`` stands in front of what is wrong with it."""
    prefix = invalid and f"{invalid}: "
    if not path.startswith("/"):
        raise InvalidParameter(f"{prefix}invalid mount path: '{path}' mount path must be absolute")
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    if cleaned == "/":
        raise InvalidParameter(f"{prefix}invalid specification: destination can't be '/'")
    return cleaned


def check_tmpfs(options: str) -> None:
    """Raises InvalidParameter for what --tmpfs does not take: the rest would go to the kernel as it is."""
    unknown = [option for option in options.split(",") if option.partition("=")[0] not in ("", *_TMPFS_OPTIONS)]
    if unknown:
        raise InvalidParameter(f"invalid tmpfs option {json.dumps(unknown)}")


def _is_mode(text: str) -> bool:
    """Whether every option is known, and none of a kind is there twice."""
    options = text.split(",")
    kinds = [
        next(
            (kind for kind in (_ACCESS, _LABELS, _PROPAGATIONS, _CONSISTENCY, _IDMAP, ("nocopy",)) if option in kind),
            None,
        )
        for option in options
    ]
    return None not in kinds and len(set(kinds)) == len(kinds)


# From mount points to the mounts that the runtime makes inside the container.

_TMPFS = ("noexec", "nosuid", "nodev")  # Docker's for --tmpfs and --mount type=tmpfs
_HOST_FILES = ("resolv.conf", "hostname", "hosts")


def write_mounts(container: Container, store: Store) -> list[Mount]:
    """All that the user has mounted, in the order to mount it: what is nearer to the root first.

    Makes the folder of a ``-v`` whose source is missing, as Docker does. Raises InvalidParameter when a source is
    gone.
    """
    mounts = [_with_ids(_mount(point, store), point, container) for point in container.mounts]
    for target, options in (container.host_config.tmpfs or {}).items():
        given = tuple(option for option in options.split(",") if option)
        mounts.append(Mount("tmpfs", "tmpfs", os.path.normpath(target), (*_TMPFS, *given)))
    return sorted(mounts, key=_depth)


def with_host_files(mounts: Sequence[Mount], directory: str, *, read_only: bool, idmap: bool = False) -> list[Mount]:
    """These mounts and, where none is in its place, each of the files that the engine writes in a container's folder.

    They lie upon what the user has mounted at /etc, and are read-only where the root is.
    """
    options = ("bind", "rprivate", *(("ro",) if read_only else ()))
    taken = {mount.target for mount in mounts}
    own = [
        Mount("bind", f"{directory}/{name}", f"/etc/{name}", options, create="file", idmap=idmap)
        for name in _HOST_FILES
        if f"/etc/{name}" not in taken and os.path.exists(f"{directory}/{name}")  # written at the first start
    ]
    return sorted((*own, *mounts), key=_depth)


def kernel_mount_points(container: Container) -> tuple[str, ...]:
    """Where a running container sees what only the kernel keeps, and nothing of the user's."""
    taken = [*(point.destination for point in container.mounts), *(container.host_config.tmpfs or {})]
    return tuple(
        place for place in ("/dev", "/proc", "/sys") if not any(f"{each}/".startswith(f"{place}/") for each in taken)
    )


def _with_ids(mount: Mount, point: MountPoint, container: Container) -> Mount:
    if point.uids:
        uids = tuple(Extent(*each) for each in point.uids)
        return msgspec.structs.replace(mount, idmap=True, uids=uids, gids=tuple(Extent(*each) for each in point.gids))
    return msgspec.structs.replace(mount, idmap=True) if point.idmap == INSIDE and container.uids else mount


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
            view = store.snapshots.view(point.chain_id or store.images.get(point.source).chain_id, point.destination)
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
    if options:
        _check_recursion(options, read_only=not point.rw)
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


def _check_recursion(options: BindOptions, *, read_only: bool) -> None:
    """Raises EngineError for options of a read-only mount that contradict each other, or that is not one."""
    wanted = {
        "ReadOnlyNonRecursive": options.read_only_non_recursive,
        "ReadOnlyForceRecursive": options.read_only_force_recursive,
    }
    for name, asked in wanted.items():
        if asked and not read_only:
            raise EngineError(f"mount options conflict: !ReadOnly && BindOptions.{name}")
    if all(wanted.values()):
        raise EngineError("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")


def _volume(point: MountPoint) -> Mount:
    """One that is ready: its files are at the point's source."""
    subpath = volume_subpath(point)
    options = ("rbind", "rprivate", *([] if point.rw else ["rro"]))
    return Mount("bind", point.source, point.destination, options, _kind(point.source, subpath), subpath)


def volume_subpath(point: MountPoint) -> str:
    """The part of its volume that is mounted; "" for all of it."""
    asked = point.request.volume_options if point.request else None
    return asked.subpath if asked else ""


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
            part = files.open_in(root, subpath, resolve=files.BENEATH)
        finally:
            os.close(root)
        try:
            return "dir" if stat.S_ISDIR(os.fstat(part).st_mode) else "file"
        finally:
            os.close(part)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise InvalidParameter(files.escapes(source, subpath)) from None
        reason = os.strerror(error.errno or 0).lower()
        if not subpath:
            raise InvalidParameter(f"cannot mount {source}: {reason}") from None
        path = f"{source}/{subpath}"
        kind = NotFound if error.errno == errno.ENOENT else InvalidParameter
        raise kind(f"cannot access path {path}: lstat {path}: {reason}") from None
