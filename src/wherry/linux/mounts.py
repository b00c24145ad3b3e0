"""Mounts: what to mount, and the calls that do it on descriptors instead of paths.

A mount is first made detached, as a descriptor (``make`` for a file system, ``clone`` for a bind), and then attached to
a descriptor of its target (``attach``). No path is looked up between the check of a target and its use, so nobody who
can write to the tree can swap a directory for a link in between (CVE-2021-30465).
"""

import errno
import os
from ctypes import (
    Structure,
    byref,
    c_char_p,
    c_int,
    c_size_t,
    c_uint,
    c_uint64,
    c_ulong,
    c_void_p,
    create_string_buffer,
    sizeof,
)

import msgspec

from wherry.linux import files, namespaces
from wherry.linux.syscalls import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    SyscallError,
    check,
    function,
    last_errno,
    system_call,
)
from wherry.linux.user_namespaces import Extent


class Mount(msgspec.Struct, frozen=True, omit_defaults=True):
    """One mount, in the words of mount(8) and of the OCI runtime spec.

    ``type`` is a file system ("overlay", "tmpfs", "proc", …) or "bind". ``target`` is absolute in the container's view,
    "" for the root itself. ``options`` are mount(8)'s: flags ("ro", "nosuid"), propagation ("rslave") and file-system
    data ("size=64m", "lowerdir=…"). ``create`` makes a missing target: "dir", "file", or "" to fail.
    ``subpath`` is the part of a bind's source, or of an overlay, that is meant. Links in it are followed: in an overlay
    as if it were the root, in a bind if they do not lead outside.
    ``idmap``: its files' ids are those of the container's user namespace, or, with ``uids`` and ``gids``, the ids
    ``inside`` are seen as those ``outside``.
    """

    type: str
    source: str
    target: str = ""
    options: tuple[str, ...] = ()
    create: str = "dir"
    subpath: str = ""
    idmap: bool = False
    uids: tuple[Extent, ...] = ()
    gids: tuple[Extent, ...] = ()


def allow_again(mount: Mount) -> None:
    """Lets a volatile overlay be mounted that was so before: the kernel has left a mark, and would refuse."""
    for option in mount.options:
        if option.startswith("workdir="):
            mark = f"{option.removeprefix('workdir=')}/work/incompat/volatile"
            try:
                os.unlink(f"{mark}/dirty")
                os.rmdir(mark)
            except FileNotFoundError:
                continue


MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

ATTR_RDONLY = 0x01
ATTR_NOSUID = 0x02
ATTR_NODEV = 0x04
ATTR_NOEXEC = 0x08
ATTR_ATIME = 0x70  # the three bits below are a field of their own; relatime is 0
ATTR_NOATIME = 0x10
ATTR_STRICTATIME = 0x20
ATTR_NODIRATIME = 0x80
ATTR_NOSYMFOLLOW = 0x200000
_ATTR_IDMAP = 0x100000

_OPEN_TREE_CLONE = 1
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MOVE_MOUNT_T_EMPTY_PATH = 0x40

PROC_MAGIC = 0x9FA0
DEVPTS_MAGIC = 0x1CD1

_statfs = create_string_buffer(256)  # struct statfs, of which only the first field, f_type, is looked at

_STRING_AT_MOST = 255  # fsconfig takes no longer value


class _MountAttr(Structure):
    _fields_ = (("set", c_uint64), ("clear", c_uint64), ("propagation", c_uint64), ("userns", c_uint64))


_READ_ONLY = _MountAttr(ATTR_RDONLY, 0, 0, 0)

_open_tree = system_call("open_tree", c_int, c_char_p, c_uint)
_move_mount = system_call("move_mount", c_int, c_char_p, c_int, c_char_p, c_uint)
_fsopen = system_call("fsopen", c_char_p, c_uint)
_fsconfig = system_call("fsconfig", c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = system_call("fsmount", c_int, c_uint, c_uint)
_mount_setattr = system_call("mount_setattr", c_int, c_char_p, c_uint, c_void_p, c_size_t)
_pivot_root = system_call("pivot_root", c_char_p, c_char_p)
_mount = function("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_fstatfs = function("fstatfs", c_int, c_void_p)
_umount2 = function("umount2", c_char_p, c_int)

# option: (attributes to set, attributes to clear)
_ATTRIBUTES = {
    "ro": (ATTR_RDONLY, 0),
    "rw": (0, ATTR_RDONLY),
    "nosuid": (ATTR_NOSUID, 0),
    "suid": (0, ATTR_NOSUID),
    "nodev": (ATTR_NODEV, 0),
    "dev": (0, ATTR_NODEV),
    "noexec": (ATTR_NOEXEC, 0),
    "exec": (0, ATTR_NOEXEC),
    "noatime": (ATTR_NOATIME, ATTR_ATIME),
    "relatime": (0, ATTR_ATIME),
    "strictatime": (ATTR_STRICTATIME, ATTR_ATIME),
    "nodiratime": (ATTR_NODIRATIME, 0),
    "diratime": (0, ATTR_NODIRATIME),
    "nosymfollow": (ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, ATTR_NOSYMFOLLOW),
}
_PROPAGATION = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED, "unbindable": MS_UNBINDABLE}
_IGNORED = frozenset(("defaults", "bind", "rbind", "async", "nomand", "norelatime"))


def option_names() -> set[str]:
    """Every option that is not a file system's own."""
    plain = {*_ATTRIBUTES, *_PROPAGATION}
    return {*_IGNORED, *plain, *(f"r{name}" for name in plain)}


class Options(msgspec.Struct, frozen=True):
    """mount(8)'s options, sorted by who takes them: the mount (attributes, propagation) or the file system (data).

    ``recursive_set``/``recursive_clear`` are those written with an r before ("rro"): they hold for submounts too.
    """

    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: int = 0
    propagation_recursive: bool = False
    recursive_bind: bool = False
    data: tuple[str, ...] = ()


def parse_options(options: tuple[str, ...]) -> Options:
    """Options as mount(8) writes them; what is neither an attribute nor a propagation is the file system's own."""
    to_set = to_clear = recursive_set = recursive_clear = propagation = 0
    propagation_recursive = False
    data = []
    for option in options:
        if option in _ATTRIBUTES:
            on, off = _ATTRIBUTES[option]
            to_set, to_clear = (to_set & ~off) | on, (to_clear & ~on) | off
        elif option in _PROPAGATION:
            propagation, propagation_recursive = _PROPAGATION[option], False
        elif option[:1] == "r" and option[1:] in _PROPAGATION:
            propagation, propagation_recursive = _PROPAGATION[option[1:]], True
        elif option[:1] == "r" and option[1:] in _ATTRIBUTES:
            on, off = _ATTRIBUTES[option[1:]]
            recursive_set, recursive_clear = (recursive_set & ~off) | on, (recursive_clear & ~on) | off
        elif option not in _IGNORED:
            data.append(option)
    return Options(
        to_set,
        to_clear,
        recursive_set,
        recursive_clear,
        propagation,
        propagation_recursive,
        "rbind" in options,
        tuple(data),
    )


def clone(path: str, *, recursive: bool = False, directory: int = AT_FDCWD) -> int:
    """A detached copy of the mount at ``path``, a bind mount in waiting; with ``path`` "", of the descriptor itself."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    return check(_open_tree(directory, os.fsencode(path), flags), "bind", path)


def pick_up(mount: Mount) -> int:
    """A detached copy of what a bind mount names as its source."""
    recursive = "rbind" in mount.options
    if not mount.subpath:
        return clone(mount.source, recursive=recursive)
    # By descriptors: who writes to the source could put a link in the path's place.
    source = os.open(mount.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        part = files.open_in(source, mount.subpath, resolve=files.BENEATH)
    finally:
        os.close(source)
    try:
        return clone("", recursive=recursive, directory=part)
    finally:
        os.close(part)


def part(overlay: int, mount: Mount) -> int:
    """A detached copy of ``mount.subpath`` of a detached overlay, which is closed.

    Only of what is mounted can a part be copied, so the overlay is for a moment, on one of its own directories. So this
    process's mount namespace must be its own, and cut off from others.
    """
    lower = next(option for option in mount.options if option.startswith("lowerdir="))
    place = split_directories(lower.removeprefix("lowerdir="))[0]
    target = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    attach(overlay, target, place)
    try:
        part = files.open_in(overlay, mount.subpath)
        try:
            return clone("", directory=part)
        finally:
            os.close(part)
    finally:
        unmount(place)
        os.close(target)
        os.close(overlay)


def make(type: str, source: str, options: tuple[str, ...] = ()) -> int:
    """A detached mount of a new file system, with these attributes and data. SyscallError has the kernel's log."""
    parsed = parse_options(options)
    if type == "overlay":
        return _make_overlay(source, parsed)
    context = check(_fsopen(type.encode(), _FSOPEN_CLOEXEC), "open file system", type)
    try:
        _configure(context, type, "source", source)
        for item in parsed.data:
            key, _, value = item.partition("=")
            _configure(context, type, key, value if "=" in item else None)
        return _finish(context, type, parsed.set)
    finally:
        os.close(context)


def attach(mount: int, target: int, path: str = "") -> None:
    """Puts a detached mount onto the descriptor ``target``. ``path`` is for the error's text."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    check(_move_mount(mount, b"", target, b"", flags), "mount on", path)


def change(
    mount: int, *, set: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False, path: str = ""
) -> None:
    """Changes a mount's attributes or propagation. ``mount`` is a descriptor; with ``path``, path is below it."""
    attr = _MountAttr(set, clear, propagation, 0)
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    check(_mount_setattr(mount, os.fsencode(path), flags, byref(attr), sizeof(attr)), "change mount", path)


def map_ids(mount: int, user_namespace: int, path: str) -> None:
    """Shows the files of a detached mount with other owners: an id is who has it in the user namespace, a descriptor.

    Raises SyscallError; EINVAL where the file system cannot.
    """
    attr = _MountAttr(_ATTR_IDMAP, 0, 0, user_namespace)
    check(_mount_setattr(mount, b"", AT_EMPTY_PATH, byref(attr), sizeof(attr)), "map the owners of", path)


def make_read_only(directory: int, name: str) -> None:
    """Binds ``name`` in a directory upon itself, read-only; with what the machine has mounted below it, where that is
    not to be uncovered (in a user namespace)."""
    path = os.fsencode(name)
    recursive = 0
    detached = _open_tree(directory, path, _OPEN_TREE_CLONE | os.O_CLOEXEC)
    if detached < 0 and last_errno() == errno.EINVAL:
        recursive = AT_RECURSIVE
        detached = _open_tree(directory, path, _OPEN_TREE_CLONE | os.O_CLOEXEC | recursive)
    check(detached, "bind", name)
    try:
        flags = AT_EMPTY_PATH | recursive
        check(_mount_setattr(detached, b"", flags, byref(_READ_ONLY), sizeof(_READ_ONLY)), "change mount", name)
        check(_move_mount(detached, b"", directory, path, _MOVE_MOUNT_F_EMPTY_PATH), "mount on", name)
    finally:
        os.close(detached)


def apply(mount: int, options: Options) -> None:
    """Gives a cloned mount the attributes and the propagation that ``options`` name."""
    if options.recursive_set or options.recursive_clear:
        change(mount, set=options.recursive_set, clear=options.recursive_clear, recursive=True)
    if options.set or options.clear:
        change(mount, set=options.set, clear=options.clear)
    if options.propagation:
        change(mount, propagation=options.propagation, recursive=options.propagation_recursive)


def make_private(path: str = "/") -> None:
    """Cuts this mount namespace's copies off from those of others: nothing mounted here shows up elsewhere."""
    change(AT_FDCWD, propagation=MS_PRIVATE, recursive=True, path=path)


def unmount(path: str, flags: int = MNT_DETACH) -> None:
    check(_umount2(os.fsencode(path), flags), "unmount", path)


def pivot(root: int) -> None:
    """Makes the mount ``root`` the root of this mount namespace and takes the old one away. Leaves the caller in "/".

    Joining the own namespace again leads out of a chroot: within one, pivot_root would change what is below it alone,
    and whoever joins the namespace later would find the host's root there.
    """
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    namespaces.join(own, namespaces.CLONE_NEWNS)
    os.close(own)
    os.fchdir(root)
    # With both arguments ".", the old root ends up stacked upon the new one: no directory to put it in is needed.
    check(_pivot_root(b".", b"."), "pivot_root")
    unmount(".", MNT_DETACH)
    os.chdir("/")


def file_system(fd: int) -> int:
    """The magic number of the file system that the descriptor is on."""
    check(_fstatfs(fd, _statfs), "fstatfs")
    return c_ulong.from_buffer(_statfs).value & 0xFFFFFFFF


def split_directories(value: str) -> list[str]:
    r"""The directories of an overlay's ``lowerdir=``: separated by ":", in which "\:" and "\\" stand for themselves."""
    directories, current, escaped = [], "", False
    for character in value:
        if escaped or character not in "\\:":
            current += character
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            directories.append(current)
            current = ""
    return [*directories, current]


def _make_overlay(source: str, options: Options) -> int:
    """Lower directories are given one at a time, so that neither their number nor their length meets a limit."""
    context = check(_fsopen(b"overlay", _FSOPEN_CLOEXEC), "open file system", "overlay")
    opened: list[int] = []

    def short(path: str) -> str:
        if len(os.fsencode(path)) <= _STRING_AT_MOST:
            return path
        opened.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
        return f"/proc/self/fd/{opened[-1]}"

    try:
        _configure(context, "overlay", "source", source)
        for item in options.data:
            key, equals, value = item.partition("=")
            if key == "lowerdir":
                for directory in split_directories(value):
                    _configure(context, "overlay", "lowerdir+", short(directory))
            elif key in ("upperdir", "workdir"):
                _configure(context, "overlay", key, short(value))
            else:
                _configure(context, "overlay", key, value if equals else None)
        return _finish(context, "overlay", options.set)
    finally:
        os.close(context)
        for fd in opened:
            os.close(fd)


def make_in_private_namespace(type: str, source: str, options: tuple[str, ...] = ()) -> int:
    """As ``make``, and also where Linux cannot yet make an overlay of many directories detached, before 6.7.

    It is then mounted for a moment on one of its own directories. So this process's mount namespace must be its own,
    and cut off from others.
    """
    try:
        return make(type, source, options)
    except SyscallError as error:
        if type != "overlay" or error.errno != errno.EINVAL:
            raise
        try:
            return _make_overlay_by_mount(source, parse_options(options))
        except SyscallError:
            raise error from None  # it has the kernel's log


def _make_overlay_by_mount(source: str, options: Options) -> int:
    """The overlay through mount(2), whose data has to fit a page: directories are named by short descriptor paths."""
    opened: list[int] = []

    def short(path: str) -> str:
        opened.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
        return f"/proc/self/fd/{opened[-1]}"

    try:
        data = []
        place = "/"
        for item in options.data:
            key, _, value = item.partition("=")
            if key == "lowerdir":
                directories = split_directories(value)
                place = directories[0]
                data.append("lowerdir=" + ":".join(short(directory) for directory in directories))
            elif key in ("upperdir", "workdir"):
                data.append(f"{key}={short(value)}")
            else:
                data.append(item)
        target = short(place)
        flags = options.set & (ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)  # the same bits as MS_RDONLY, …
        check(
            _mount(source.encode(), target.encode(), b"overlay", flags, ",".join(data).encode()),
            "mount overlay on",
            place,
        )
        # The descriptor is still that of the directory beneath; its path leads to the overlay on top of it.
        mounted = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.append(mounted)
        detached = clone("", directory=mounted)
        unmount(place)
        return detached
    finally:
        for fd in opened:
            os.close(fd)


def _configure(context: int, type: str, key: str, value: str | None) -> None:
    if value is None:
        result = _fsconfig(context, _FSCONFIG_SET_FLAG, key.encode(), None, 0)
    else:
        result = _fsconfig(context, _FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0)
    if result < 0:
        option = key if value is None else f"{key}={value}"
        raise SyscallError(last_errno(), f"mount {type} with", option, detail=_log(context))


def _finish(context: int, type: str, attributes: int) -> int:
    if _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None, 0) < 0:
        raise SyscallError(last_errno(), "mount", type, detail=_log(context))
    mount = _fsmount(context, _FSMOUNT_CLOEXEC, attributes)
    if mount < 0:
        raise SyscallError(last_errno(), "mount", type, detail=_log(context))
    return mount


def _log(context: int) -> str:
    """What the kernel has to say about the last failure: lines such as "e overlay: …", one a read."""
    lines: list[str] = []
    while True:
        try:
            line = os.read(context, 4096).decode(errors="replace").strip()
        except OSError:  # ENODATA: no more
            return "; ".join(lines)
        lines.append(line[2:] if line[1:2] == " " else line)
