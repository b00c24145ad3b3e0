"""What a container has mounted: from -v, --mount, --volumes-from, --tmpfs and the image's VOLUME to mount points.

Each is settled when the container is made and kept with it, so that a later start mounts the same things again.
"""

import json
import os
import posixpath
from collections.abc import Iterable

import msgspec

from wherry.model.config import ContainerConfig
from wherry.model.errors import InvalidParameter, NotSupported
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
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    source, mode = "", ""
    if len(parts) == 3:
        source, destination, mode = parts
    elif len(parts) == 2 and _is_mode(parts[1]):
        destination, mode = parts
    elif len(parts) == 2:
        source, destination = parts
    else:
        destination = parts[0]
    kind = "bind" if source.startswith("/") else "volume"
    destination = _destination(destination, text, kind)
    options = mode.split(",") if mode else []
    if not _is_mode(mode) and mode:
        raise InvalidParameter(f"invalid mode: {mode}")
    propagation = next((option for option in options if option in _PROPAGATIONS), "")
    if kind == "volume" and propagation:
        raise InvalidParameter(f"invalid volume specification: '{text}': propagation is for binds only")
    if kind == "bind" and "nocopy" in options:
        raise InvalidParameter(f"invalid volume specification: '{text}': nocopy is for volumes only")
    return MountPoint(
        type=kind,
        destination=destination,
        source=os.path.normpath(source) if kind == "bind" else "",
        name=source if kind == "volume" else "",
        driver="local" if kind == "volume" else "",
        mode=mode if kind == "bind" else mode or "z",
        rw="ro" not in options,
        propagation=(propagation or "rprivate") if kind == "bind" else "",
        copy=kind == "volume" and "nocopy" not in options,
    )


def parse_request(request: MountRequest) -> MountPoint:
    """A ``--mount``. Raises InvalidParameter in Docker's words."""
    kind = request.type
    if kind not in _TYPES:
        raise InvalidParameter(f'invalid mount config for type "{kind}": mount type unknown: "{kind}"')
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
        destination=_destination(request.target, request.target, kind),
        rw=not request.read_only and kind != "image",
        request=request,
    )
    match kind:
        case "bind":
            _settle_bind(point, request, invalid)
        case "volume":
            options = request.volume_options
            point.name = request.source
            point.driver = (options.driver_config.name if options and options.driver_config else "") or "local"
            point.copy = not (options and options.no_copy)
            point.mode = "z"
            if options and (options.subpath.startswith("/") or ".." in options.subpath.split("/")):
                raise InvalidParameter(f"{invalid}: subpath must be a relative path within the volume")
        case "image":
            if not request.source:
                raise InvalidParameter(f"{invalid}: field Source must not be empty")
            if request.image_options and request.image_options.subpath:
                raise NotSupported("a part of an image cannot be mounted: leave the subpath out")
        case "tmpfs":
            if request.source:
                raise InvalidParameter(f"{invalid}: field Source must not be specified")
    return point


def _settle_bind(point: MountPoint, request: MountRequest, invalid: str) -> None:
    options = request.bind_options
    if not request.source:
        raise InvalidParameter(f"{invalid}: field Source must not be empty")
    if not request.source.startswith("/"):
        raise InvalidParameter(f"{invalid}: invalid mount path: '{request.source}' mount path must be absolute")
    if options and options.propagation and options.propagation not in _PROPAGATIONS:
        raise InvalidParameter(f"{invalid}: invalid propagation mode: {options.propagation}")
    if not os.path.lexists(request.source) and not (options and options.create_mountpoint):
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
        destination = _destination(target, target, "tmpfs")
        check_tmpfs(options)
        if destination in said:
            raise InvalidParameter(f"Duplicate mount point: {destination}")
        said.add(destination)
        points.pop(destination, None)
    for target in config.volumes or {}:
        destination = _destination(target, target, "volume")
        if destination not in points and destination not in said:
            points[destination] = MountPoint(
                type="volume", destination=destination, driver="local", copy=True, anonymous=True
            )
    return sorted(points.values(), key=lambda point: (point.destination.count("/"), point.destination))


def inherit(points: Iterable[MountPoint], mode: str) -> list[MountPoint]:
    """The mount points of another container, for --volumes-from; "ro" makes them read-only here. No tmpfs."""
    if mode not in ("", *_ACCESS, *_LABELS):
        raise InvalidParameter(f"invalid mode: {mode}")
    found = []
    for point in points:
        if point.type != "tmpfs":
            found.append(
                msgspec.structs.replace(point, rw=point.rw and mode != "ro", anonymous=False, mode=mode or point.mode)
            )
    return found


def describe(point: MountPoint) -> dict[str, object]:
    """The API's MountPoint."""
    found: dict[str, object] = {"Type": point.type}
    if point.name:
        found["Name"] = point.name
    found |= {"Source": point.source, "Destination": point.destination}
    if point.driver:
        found["Driver"] = point.driver
    return found | {"Mode": point.mode, "RW": point.rw, "Propagation": point.propagation}


def _destination(path: str, text: str, kind: str) -> str:
    if not path.startswith("/"):
        raise InvalidParameter(
            f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": "
            f"invalid mount path: '{path}' mount path must be absolute"
        )
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    if cleaned == "/":
        raise InvalidParameter(
            f"invalid volume specification: '{text}': invalid specification: destination can't be '/'"
        )
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
