"""Which user namespace a container has, and whose ids are root's and everybody's in there.

The words are Docker's and Podman's: "host" is the machine's own; "auto" a range of ids for this container alone, cut
from the subordinate ids of ``wherry`` or ``dockremap``; "private" is what the user maps. Without one it is what the
engine's settings say. A container that joins a namespace of another is in the user namespace of that one.

A range belongs to its container until this is removed: it is kept with it, and so it outlives the engine.
"""

import os
from collections.abc import Iterable, Sequence

import msgspec

from wherry.common.errors import Conflict, EngineError, InvalidParameter, NotSupported
from wherry.engine.context import Context, Service
from wherry.linux import user_namespaces
from wherry.linux.user_namespaces import Extent
from wherry.model.container import Container, HostConfig

SIZE = 65536
"""How many ids a container gets: with nobody, who is 65534, every image's users."""

_OWNERS = ("wherry", "dockremap")
_FILES = ("/etc/subuid", "/etc/subgid")
_LEAST = 65536  # below are the machine's own users
_ID_AT_MOST = 0xFFFFFFFE
_OTHERS = "container:"
_ADVICE = (
    "give it some, in /etc/subuid and in /etc/subgid: "
    "echo wherry:2147483648:1073741824 | tee -a /etc/subuid /etc/subgid"
)

Extents = tuple[Extent, ...]
Triple = tuple[int, int, int]


class Maps(msgspec.Struct, frozen=True):
    """Without any, the namespace is the machine's."""

    uids: Extents = ()
    gids: Extents = ()


class Wanted(msgspec.Struct):
    """What "auto" was asked for with."""

    size: int = SIZE
    uids: list[Extent] = []
    gids: list[Extent] = []


class UserNamespaces(Service):
    def __init__(self, context: Context) -> None:
        """Raises EngineError when the user of --userns-remap has no ids."""
        super().__init__(context)
        self._remapped = remapped(self._config.userns_remap) if self._config.userns_remap else Maps()
        parse_mode(self._config.default_userns_mode)
        self._claims: dict[str, Maps] = {}  # of containers that are being made

    def settle(self, container_id: str, host: HostConfig) -> tuple[list[Triple], list[Triple]]:
        """The ids of a container that is being made, users' and groups': claimed until ``made``. Raises
        InvalidParameter for what cannot be, and Conflict where there are no ids left."""
        maps = self._settle(host)
        if maps.uids:
            _check(host)
            self._claims[container_id] = maps
        return list(maps.uids), list(maps.gids)

    def made(self, container_id: str) -> None:
        """The container that ``settle`` was called for has come to be, or will not be."""
        self._claims.pop(container_id, None)

    def _settle(self, host: HostConfig) -> Maps:
        joined = self._joined(host)
        if joined is not None and joined.uids:
            raise NotSupported("the namespaces of a container in a user namespace cannot be joined by another")
        mode = host.userns_mode
        if joined is not None and (mode.startswith(_OTHERS) or not mode):
            return joined
        maps = self._of_mode(mode, host)
        if joined is not None and maps != joined:
            raise InvalidParameter(
                "a container whose namespaces are joined has another user namespace: leave out --userns"
            )
        return maps

    def _joined(self, host: HostConfig) -> Maps | None:
        """Those of the containers whose namespaces are joined."""
        modes = (host.userns_mode, host.network_mode, host.ipc_mode, host.pid_mode)
        others = [self._entries.get(mode.removeprefix(_OTHERS)).record for mode in modes if mode.startswith(_OTHERS)]
        found = {maps_of(record) for record in others}
        if len(found) > 1:
            raise InvalidParameter("the containers whose namespaces are joined have different user namespaces")
        return next(iter(found), None)

    def _of_mode(self, mode: str, host: HostConfig) -> Maps:
        asked = host.id_mappings if isinstance(host.id_mappings, msgspec.Struct) else None
        if asked is not None and (asked.uid_map or asked.gid_map):
            if mode not in ("", "private"):
                raise InvalidParameter(f"--uidmap and --gidmap are for a user namespace of their own, not for {mode!r}")
            _check_root()
            uids = parse_maps(asked.uid_map or asked.gid_map or ())
            return Maps(uids, parse_maps(asked.gid_map) if asked.gid_map else uids)
        if not mode and self._remapped.uids:
            return self._remapped
        wanted = parse_mode(mode or self._config.default_userns_mode)
        if wanted is None:
            return Maps()
        _check_root()
        return Maps(self._cut(0, wanted.size, wanted.uids), self._cut(1, wanted.size, wanted.gids))

    def _cut(self, kind: int, size: int, fixed: Sequence[Extent]) -> Extents:
        """A free range of a size, but for ids whose place is fixed."""
        gaps = _without(fixed, size)
        needed = sum(length for _, length in gaps)
        start = self._find(kind, needed) if needed else 0
        found = list(fixed)
        for inside, length in gaps:
            found.append(Extent(inside, start, length))
            start += length
        return checked(sorted(found))

    def _find(self, kind: int, size: int) -> int:
        used = sorted(
            (extent.outside, extent.length)
            for maps in (self._remapped, *self._claims.values(), *(maps_of(entry.record) for entry in self._entries))
            for extent in (maps.gids if kind else maps.uids)
        )
        pool = available(_FILES[kind])
        for first, length in pool:
            start = first
            for taken, many in used:
                if taken < start + size and taken + many > start:
                    start = taken + many
            if start + size <= first + length:
                return start
        if not pool:
            raise Conflict(f"neither wherry nor dockremap has ids in {_FILES[kind]}: {_ADVICE}")
        raise Conflict(
            f"no {size} ids in a row are left in {_FILES[kind]}: remove a container, "
            f"ask for fewer with size=, or {_ADVICE}"
        )


def maps_of(record: Container) -> Maps:
    return Maps(tuple(Extent(*each) for each in record.uids), tuple(Extent(*each) for each in record.gids))


def parse_mode(mode: str) -> Wanted | None:
    """What "auto" is asked for with; None for the machine's user namespace. Raises InvalidParameter."""
    name, colon, options = mode.partition(":")
    if mode in ("", "host"):
        return None
    if name != "auto" or (colon and not options):
        raise InvalidParameter(f"invalid user namespace mode: {mode}")
    wanted = Wanted(uids=[], gids=[])
    for option in options.split(",") if options else ():
        key, _, value = option.partition("=")
        if key == "size" and value.isascii() and value.isdigit() and 0 < int(value) <= _ID_AT_MOST:
            wanted.size = int(value)
        elif key == "uidmapping":
            wanted.uids.append(parse_extent(value))
        elif key == "gidmapping":
            wanted.gids.append(parse_extent(value))
        else:
            raise InvalidParameter(f"invalid user namespace mode: {mode}: there are size=, uidmapping= and gidmapping=")
    return wanted


def parse_extent(text: str) -> Extent:
    """ "CONTAINER:HOST:SIZE"; one id without a size. Raises InvalidParameter."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts):
        raise InvalidParameter(f"invalid id mapping {text!r}: it is CONTAINER:HOST:SIZE")
    inside, outside, length = (*map(int, parts), 1)[:3]
    if not length or max(inside, outside) + length - 1 > _ID_AT_MOST:
        raise InvalidParameter(f"invalid id mapping {text!r}: ids are at most {_ID_AT_MOST}")
    return Extent(inside, outside, length)


def parse_maps(given: Iterable[str]) -> Extents:
    """Those of --uidmap and --gidmap. Raises InvalidParameter."""
    return checked([parse_extent(text) for text in given])


def checked(extents: Sequence[Extent], *, root: bool = True) -> Extents:
    """Raises InvalidParameter where an id would be two, or ``root`` nobody."""
    for one, other in ((one, other) for one in extents for other in extents if one is not other):
        for mine, theirs in ((one.inside, other.inside), (one.outside, other.outside)):
            if mine < theirs + other.length and theirs < mine + one.length:
                raise InvalidParameter(f"id mappings overlap: {_shown(one)} and {_shown(other)}")
    if root and not user_namespaces.covers(extents, 0):
        raise InvalidParameter("id mappings must have one for root, who is 0 in the container")
    return tuple(extents)


def shown(maps: Maps) -> dict[str, list[str]]:
    """As Podman's inspect tells them."""
    return {"UidMap": [_shown(each) for each in maps.uids], "GidMap": [_shown(each) for each in maps.gids]}


def available(path: str) -> list[tuple[int, int]]:
    """The ranges that containers' are cut from. What a file gives to somebody else as well is that one's, and what may
    be a user of the machine's is nobody's."""
    entries = user_namespaces.subordinate_entries(path)
    owner = next((each for each in _OWNERS if any(name == each for name, _, _ in entries)), "")
    taken = [(0, _LEAST), *((first, length) for name, first, length in entries if name != owner)]
    own = [(first, min(length, _ID_AT_MOST + 1 - first)) for name, first, length in entries if name == owner]
    for first, length in taken:
        own = [piece for each in own for piece in _minus(each, first, length)]
    return own


def remapped(text: str) -> Maps:
    """The ids of --userns-remap: "default", "user", "user:group", or numbers. Raises EngineError in Docker's words."""
    if not user_namespaces.is_initial():
        raise EngineError("userns-remap is for an engine of root's: an ordinary user's has a user namespace already")
    user, colon, group = text.partition(":")
    if text == "default":
        user = group = next(
            (name for name in reversed(_OWNERS) if all(user_namespaces.subordinate(path, name) for path in _FILES)), ""
        )
        if not user:
            raise EngineError(f"userns-remap=default: neither dockremap nor wherry has ids: {_ADVICE}")
    elif not user or (colon and not group):
        raise EngineError(f'invalid user/group specification in --userns-remap: "{text}"')
    names = (_name(user, "user"), _name(group or user, "group"))
    maps = []
    for kind, path, name in zip(("user", "group"), _FILES, names, strict=True):
        extents: list[Extent] = []
        for first, length in user_namespaces.subordinate(path, name):
            end = extents[-1].inside + extents[-1].length if extents else 0
            extents.append(Extent(end, first, min(length, SIZE) if text == "default" else length))
        if not extents:
            found = os.path.basename(path)
            raise EngineError(f'Can\'t create ID mappings: no {found} ranges found for {kind} "{name}"')
        maps.append(checked(extents[:1] if text == "default" else extents))
    return Maps(*maps)


def _name(text: str, kind: str) -> str:
    """The name of a user or a group that may have been given by its number; one with subordinate ids need not exist."""
    if not text.isdigit():
        return text
    import grp
    import pwd

    try:
        return pwd.getpwuid(int(text)).pw_name if kind == "user" else grp.getgrgid(int(text)).gr_name
    except KeyError:
        raise EngineError(f"userns-remap: there is no {kind} {text}") from None


def _check_root() -> None:
    if not user_namespaces.is_initial():
        raise NotSupported("an ordinary user's engine is in a user namespace, and its containers have no others")


def _check(host: HostConfig) -> None:
    """Raises InvalidParameter, in Docker's words, for what root of a user namespace cannot have."""
    if host.privileged:
        raise InvalidParameter(
            "privileged mode is incompatible with user namespaces.  "
            "You must run the container in the host namespace when running privileged mode"
        )
    if host.network_mode == "host":
        raise InvalidParameter("cannot share the host's network namespace when user namespaces are enabled")
    if host.pid_mode == "host":
        raise InvalidParameter("cannot share the host PID namespace when user namespaces are enabled")


def _without(fixed: Sequence[Extent], size: int) -> list[tuple[int, int]]:
    """What is left of the ids from 0 on: pairs of the first and how many."""
    gaps = [(0, size)]
    for extent in fixed:
        gaps = [piece for gap in gaps for piece in _minus(gap, extent.inside, extent.length)]
    return gaps


def _minus(whole: tuple[int, int], first: int, length: int) -> list[tuple[int, int]]:
    start, end = whole[0], whole[0] + whole[1]
    pieces = ((start, min(end, first)), (max(start, first + length), end))
    return [(low, high - low) for low, high in pieces if low < high]


def _shown(extent: Extent) -> str:
    return f"{extent.inside}:{extent.outside}:{extent.length}"
