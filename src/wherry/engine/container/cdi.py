"""Devices by the Container Device Interface: files of vendors say what a container needs to use a device.

``--device vendor.com/class=name`` names one. The files are read when a container with such a device starts, so what a
vendor changes holds from the next start on, and who has no such devices pays nothing.
"""

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from wherry.common.errors import EngineError, InvalidParameter
from wherry.linux.cgroups import DeviceRule
from wherry.linux.mounts import Mount
from wherry.model.container import DeviceRequest, HostConfig
from wherry.runtime.spec import Device, Hook, Spec

DRIVER = "cdi"
_GPU = "nvidia.com/gpu"
_GPU_CAPABILITIES = frozenset(("gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"))
_SUFFIXES = (".json", ".yaml", ".yml")
_VERSIONS = frozenset(("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"))
_KIND = re.compile(r"[A-Za-z]([\w.-]*[A-Za-z0-9])?/[A-Za-z]([\w.-]*[A-Za-z0-9])?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9]([\w.:-]*[A-Za-z0-9])?", re.ASCII)
_HOOK = "createContainer"
_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_BINDS = ("", "none", "bind")


class DeviceNode(msgspec.Struct, rename="camel"):
    """``type`` and the numbers are those of ``host_path``, which is ``path`` unless it is said, where they are not. The
    owner is who uses the container, where that is a number."""

    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = "rwm"
    uid: int | None = None
    gid: int | None = None


class HostMount(msgspec.Struct, rename="camel"):
    host_path: str
    container_path: str
    options: list[str] = []
    type: str = ""


class HookOf(msgspec.Struct, rename="camel"):
    hook_name: str
    path: str
    args: list[str] = []
    env: list[str] = []
    timeout: int | None = None


class ContainerEdits(msgspec.Struct, rename="camel"):
    """What is to be changed of a container."""

    env: list[str] = []
    device_nodes: list[DeviceNode] = []
    mounts: list[HostMount] = []
    hooks: list[HookOf] = []
    additional_gids: list[int] = msgspec.field(default_factory=list, name="additionalGids")
    intel_rdt: dict[str, Any] | None = None
    net_devices: list[Any] | None = None


class NamedEdits(msgspec.Struct, rename="camel"):
    name: str
    container_edits: ContainerEdits = msgspec.field(default_factory=ContainerEdits)


class Specification(msgspec.Struct, rename="camel"):
    """A vendor's file. ``container_edits`` are for whoever has any of its devices."""

    cdi_version: str
    kind: str
    devices: list[NamedEdits]
    container_edits: ContainerEdits = msgspec.field(default_factory=ContainerEdits)


class Registry:
    """What the files in some directories say; of a device that several have, the later directory's counts.

    ``errors`` are files that cannot be used, and devices that two files of one directory have, each with its reason.
    """

    def __init__(self, directories: Iterable[str]) -> None:
        self.errors: list[str] = []
        self._devices: dict[str, tuple[Specification, ContainerEdits]] = {}
        for directory in directories:
            self._read(directory)

    @property
    def devices(self) -> list[str]:
        return sorted(self._devices)

    def edits(self, names: Iterable[str]) -> Iterator[ContainerEdits]:
        """All that these devices need. Raises EngineError for one that is not there."""
        wanted = list(dict.fromkeys(names))
        missing = [name for name in wanted if name not in self._devices]
        if missing:
            why = f" ({'; '.join(self.errors)})" if self.errors else ""
            raise EngineError(f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}{why}")
        seen: list[Specification] = []
        for name in wanted:
            specification, own = self._devices[name]
            if not any(each is specification for each in seen):
                seen.append(specification)
                yield specification.container_edits
            yield own

    def _read(self, directory: str) -> None:
        found: dict[str, tuple[Specification, ContainerEdits]] = {}
        twice = set()
        for path in _files(directory):
            try:
                specification = _decode(path)
            except (OSError, ValueError) as error:
                self.errors.append(f"{path}: {error.strerror if isinstance(error, OSError) else error}")
                continue
            for device in specification.devices:
                name = f"{specification.kind}={device.name}"
                if name in found:
                    self.errors.append(f"{path}: another file in {directory} has {name}, too")
                    twice.add(name)
                found[name] = (specification, device.container_edits)
        self._devices = {name: device for name, device in (self._devices | found).items() if name not in twice}


def _files(directory: str) -> list[str]:
    try:
        return [f"{directory}/{name}" for name in sorted(os.listdir(directory)) if name.endswith(_SUFFIXES)]
    except OSError:
        return []


def _decode(path: str) -> Specification:
    """Raises OSError and ValueError."""
    with open(path, "rb") as file:
        data = file.read()
    if path.endswith(".json"):
        document = msgspec.json.decode(data)
    else:
        import yaml  # which few engines need

        try:
            document = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from None
    found = msgspec.convert(document, Specification)
    _check(found)
    return found


def _check(found: Specification) -> None:
    if found.cdi_version not in _VERSIONS:
        raise ValueError(f"CDI version {found.cdi_version!r} is not known here")
    if not _KIND.fullmatch(found.kind):
        raise ValueError(f"invalid kind {found.kind!r}: it is to be vendor.com/class")
    if not found.devices:
        raise ValueError("it has no devices")
    names = [device.name for device in found.devices]
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"invalid device name {name!r}")
        if names.count(name) > 1:
            raise ValueError(f"it has the device {name} twice")
    for edits in (found.container_edits, *(device.container_edits for device in found.devices)):
        _check_edits(edits)


def _check_edits(edits: ContainerEdits) -> None:
    for entry in edits.env:
        if entry.partition("=")[0] == "" or "=" not in entry:
            raise ValueError(f"invalid environment variable {entry!r}")
    for node in edits.device_nodes:
        if node.type not in ("", *_TYPES) or not node.path.startswith("/") or not set(node.permissions) <= set("rwm"):
            raise ValueError(f"invalid device node {node.path!r}")
    for mount in edits.mounts:
        if not mount.host_path or not mount.container_path.startswith("/"):
            raise ValueError(f"invalid mount {mount.host_path!r} at {mount.container_path!r}")
    for hook in edits.hooks:
        if not hook.path.startswith("/"):
            raise ValueError(f"invalid hook {hook.path!r}: its path is to be absolute")


# From what was asked for to names


def is_name(text: str) -> bool:
    """vendor.com/class=name, which stands in the place of a path where an older Compose asks."""
    kind, _, name = text.partition("=")
    return bool(_KIND.fullmatch(kind) and _NAME.fullmatch(name))


def is_asked(host: HostConfig) -> bool:
    return bool(host.device_requests) or any(is_name(device.path_on_host) for device in host.devices)


def names_of(host: HostConfig, registry: Registry) -> list[str]:
    """The devices that are asked for. Raises InvalidParameter and EngineError, as Docker does at the start."""
    named = [device.path_on_host for device in host.devices if is_name(device.path_on_host)]
    return named + [name for request in host.device_requests or () for name in _names(request, registry)]


def _names(request: DeviceRequest, registry: Registry) -> list[str]:
    if request.driver == DRIVER:
        if request.count:
            raise InvalidParameter("unexpected count in CDI device request")
        if request.options:
            raise InvalidParameter("unexpected options in CDI device request")
        return request.device_ids or []
    if _means_gpus(request) and any(name.startswith(f"{_GPU}=") for name in registry.devices):
        if request.count and request.device_ids:
            raise InvalidParameter("cannot set both Count and DeviceIDs on device request")
        if request.options:
            raise InvalidParameter("unexpected options in CDI device request")
        every = ["all"] if request.count < 0 else [str(number) for number in range(request.count)]
        return [f"{_GPU}={name}" for name in request.device_ids or every]
    wanted = " ".join(f"[{' '.join(names)}]" for names in request.capabilities or ())
    raise EngineError(f'could not select device driver "{request.driver}" with capabilities: [{wanted}]')


def _means_gpus(request: DeviceRequest) -> bool:
    return request.driver in ("", "nvidia") and any(
        _GPU_CAPABILITIES.issuperset(names) for names in request.capabilities
    )


# From edits to the spec


def inject(spec: Spec, edits: Iterable[ContainerEdits]) -> Spec:
    """The spec of a container that has these devices, too. Raises EngineError."""
    for each in edits:
        spec = _apply(spec, each)
    return spec


def _apply(spec: Spec, edits: ContainerEdits) -> Spec:
    if edits.intel_rdt or edits.net_devices:
        raise EngineError("CDI device injection failed: intelRdt and netDevices are not supported")
    user, _, group = spec.process.user.partition(":")
    nodes = [_node(node, _number(user), _number(group)) for node in edits.device_nodes]
    paths = {node.path for node in nodes}
    rules = [_rule(node, asked.permissions) for node, asked in zip(nodes, edits.device_nodes, strict=True)]
    process = msgspec.structs.replace(
        spec.process,
        env=_environment(spec.process.env, edits.env),
        groups=(*spec.process.groups, *(str(group) for group in edits.additional_gids if group)),
    )
    resources = msgspec.structs.replace(spec.resources, devices=(*spec.resources.devices, *filter(None, rules)))
    return msgspec.structs.replace(
        spec,
        process=process,
        devices=(*(node for node in spec.devices if node.path not in paths), *nodes),
        resources=resources,
        mounts=_mounts(spec.mounts, edits.mounts),
        hooks=(*spec.hooks, *map(_hook, edits.hooks)),
    )


def _environment(before: Sequence[str], more: Iterable[str]) -> tuple[str, ...]:
    entries = {entry.partition("=")[0]: entry for entry in (*before, *more)}
    return tuple(entries.values())


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _node(node: DeviceNode, user: int, group: int) -> Device:
    source = node.host_path or node.path
    kind, number, mode = _TYPES.get(node.type, 0), os.makedev(node.major, node.minor), node.file_mode
    try:
        found = os.stat(source)
    except OSError as error:
        if not kind or (kind != stat.S_IFIFO and not node.major):
            raise EngineError(
                f"CDI device injection failed: failed to stat CDI host device {json.dumps(source)}: {error.strerror}"
            ) from None
    else:
        if stat.S_IFMT(found.st_mode) not in _TYPES.values() or kind not in (0, stat.S_IFMT(found.st_mode)):
            raise EngineError(f"CDI device injection failed: {source} is not such a device")
        kind = stat.S_IFMT(found.st_mode)
        number = number or found.st_rdev
        mode = stat.S_IMODE(found.st_mode) if mode is None else mode
    mode = 0o666 if mode is None else stat.S_IMODE(mode)
    uid, gid = user if node.uid is None else node.uid, group if node.gid is None else node.gid
    return Device(source, node.path, mode, kind=kind, number=number, uid=uid, gid=gid)


def _rule(node: Device, access: str) -> DeviceRule | None:
    if node.kind == stat.S_IFIFO:
        return None
    kind = "b" if node.kind == stat.S_IFBLK else "c"
    return DeviceRule(True, kind, os.major(node.number), os.minor(node.number), access or "rwm")


def _mounts(before: tuple[Mount, ...], more: Sequence[HostMount]) -> tuple[Mount, ...]:
    """What is nearer to the root comes first; a vendor's mount takes the place of another one there."""
    if not more:
        return before
    own = [_mount(mount) for mount in more]
    targets = {mount.target for mount in own}
    kept = [mount for mount in before if mount.target not in targets]
    return tuple(sorted((*kept, *own), key=lambda mount: mount.target.count("/")))


def _mount(mount: HostMount) -> Mount:
    target = os.path.normpath(mount.container_path)
    if mount.type not in _BINDS and not {"bind", "rbind"}.intersection(mount.options):
        return Mount(mount.type, mount.host_path, target, tuple(mount.options))
    create = "dir" if os.path.isdir(mount.host_path) else "file"
    return Mount("bind", mount.host_path, target, tuple(mount.options) or ("rbind",), create=create)


def _hook(hook: HookOf) -> Hook:
    if hook.hook_name != _HOOK:
        raise EngineError(
            f"CDI device injection failed: {hook.path} is a {hook.hook_name} hook, and only {_HOOK} hooks are run here"
        )
    return Hook(hook.path, tuple(hook.args), tuple(hook.env), hook.timeout or 0)
