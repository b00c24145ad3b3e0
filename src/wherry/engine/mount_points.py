"""What a container has mounted: from -v, --mount, --volumes-from, --tmpfs and the image's VOLUME to mount points.

Each is settled when the container is made and kept with it, so that a later start mounts the same things again.
"""

import json
import os
import posixpath
from collections.abc import Iterable

import msgspec

from wherry.model.config import ContainerConfig
from wherry.model.errors import InvalidParameter
from wherry.model.host import HostConfig, MountRequest
from wherry.model.volume import MountPoint

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_ACCESS = ("ro", "rw")
_LABELS = ("z", "Z")
_CONSISTENCY = ("cached", "delegated", "consistent", "default")
_TMPFS_OPTIONS = frozenset((
    "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "remount", "mand",
    "nomand", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
    "bind", "rbind", "unbindable", "runbindable", *_PROPAGATIONS, "size", "mode", "uid", "gid", "nr_inodes",
    "nr_blocks", "mpol",
))  # fmt: skip
_TYPES = ("bind", "volume", "tmpfs", "image")


def parse_bind(text: str) -> MountPoint:
    """A ``-v``: "source:destination:options", "source:destination" or "destination". Raises InvalidParameter."""
    invalid = f"invalid volume specification: '{text}'"
    parts = text.split(":")
    # One without a source takes no options: "/data:ro" is not a volume at /data.
    if len(parts) > 3 or not all(parts) or (len(parts) == 2 and _is_mode(parts[1])):
        raise InvalidParameter(invalid)
    *sources, destination = parts[:2]
    source = sources[0] if sources else ""
    mode = parts[2] if len(parts) == 3 else ""
    if mode and not _is_mode(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    kind = "bind" if source.startswith("/") else "volume"
    invalid += f': invalid mount config for type "{kind}"'
    destination = _destination(destination, invalid)
    options = mode.split(",") if mode else []
    propagation = next((option for option in options if option in _PROPAGATIONS), "")
    if kind == "volume" and propagation:
        raise InvalidParameter(f"{invalid}: field BindOptions must not be specified")
    if kind == "bind" and "nocopy" in options:
        raise InvalidParameter(f"{invalid}: field VolumeOptions must not be specified")
    return MountPoint(
        type=kind,
        destination=destination,
        source=os.path.normpath(source) if kind == "bind" else "",
        name=source if kind == "volume" else "",
        mode=mode if kind == "bind" else mode or "z",
        rw="ro" not in options,
        propagation=(propagation or "rprivate") if kind == "bind" else "",
        copy=kind == "volume" and "nocopy" not in options,
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
        msgspec.structs.replace(point, rw=point.rw and not read_only, anonymous=False, copy=False, mode="")
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
        next((kind for kind in (_ACCESS, _LABELS, _PROPAGATIONS, _CONSISTENCY, ("nocopy",)) if option in kind), None)
        for option in options
    ]
    return None not in kinds and len(set(kinds)) == len(kinds)
