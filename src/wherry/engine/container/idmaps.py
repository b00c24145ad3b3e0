"""Binds whose files have other owners in the container than on the disk: ``-v …:idmap`` and ``--mount …,idmap=…``.

By default the owner of what is bound and the container's user are one: what the container makes there belongs to whom
the directory belongs to, and all other owners are nobody. Otherwise it is what Podman's "uids=…;gids=…" say.
"""

import os

from wherry.common.errors import InvalidParameter
from wherry.engine.container.user_namespaces import Extents, Maps, checked, maps_of
from wherry.linux import user_namespaces
from wherry.linux.user_namespaces import Extent
from wherry.model.container import Container, MountPoint
from wherry.runtime.identity import look_up_user
from wherry.runtime.ipc import StartError
from wherry.storage.store import Store

INSIDE = "inside"
"""A volume's: on the disk are the ids that are seen in a container."""
OWNER = "owner"


def wanted(text: str) -> str:
    """What an option says; "" is none. Raises InvalidParameter."""
    if text in ("", "true"):
        return OWNER if text else ""
    parse(text, Maps())
    return text


def settle(point: MountPoint, record: Container, store: Store) -> None:
    """Notes whose ids a bind's files have. Raises InvalidParameter."""
    if point.type != "bind" or not point.idmap:
        return
    maps = maps_of(record)
    found = _of_owner(point.source, record, maps, store) if point.idmap == OWNER else parse(point.idmap, maps)
    if maps.uids and any(user_namespaces.covers(extents, 0) for extents in (found.uids, found.gids)):
        # It would make files that are set-user-ID root for the machine.
        raise InvalidParameter(
            f"idmap of {point.source}: files of the machine's root are not given to a container in a user namespace"
        )
    point.uids, point.gids = list(found.uids), list(found.gids)


def _of_owner(source: str, record: Container, maps: Maps, store: Store) -> Maps:
    try:
        facts = os.stat(source)
    except OSError as error:
        raise InvalidParameter(f"idmap of {source}: {os.strerror(error.errno or 0).lower()}") from None
    user, group = _user_of(record, store)
    return Maps(
        (Extent(facts.st_uid, _outside(user, maps.uids), 1),), (Extent(facts.st_gid, _outside(group, maps.gids), 1),)
    )


def _user_of(record: Container, store: Store) -> tuple[int, int]:
    """By the image's own files, as far as they are there."""
    passwd, group = (store.snapshots.find(record.chain_id, path) for path in ("/etc/passwd", "/etc/group"))
    try:
        found = look_up_user(record.config.user, passwd=passwd or os.devnull, group=group or os.devnull)
    except StartError as error:
        raise InvalidParameter(error.message) from None
    return found.uid, found.gid


def _outside(number: int, extents: Extents) -> int:
    found = user_namespaces.outside(number, extents) if extents else number
    if found < 0:
        raise InvalidParameter(f"idmap: {number} is nobody in the container's user namespace")
    return found


def parse(text: str, maps: Maps) -> Maps:
    """Podman's words, "uids=0-1000-1#1-2000-10;gids=@0-0-1": the first id on the disk, who that is on the machine, or
    with an @ in the container, and how many. Raises InvalidParameter."""
    found: dict[str, list[Extent]] = {}
    for part in text.split(";"):
        kind, _, triples = part.partition("=")
        if kind not in ("uids", "gids") or kind in found or not triples:
            raise InvalidParameter(f"invalid idmap {text!r}: it is uids=DISK-MACHINE-SIZE#…;gids=…")
        of_container = maps.uids if kind == "uids" else maps.gids
        found[kind] = [_extent(triple, of_container, text) for triple in triples.split("#")]
    uids = found.get("uids") or found["gids"]
    return Maps(checked(uids, root=False), checked(found.get("gids") or uids, root=False))


def _extent(triple: str, of_container: Extents, text: str) -> Extent:
    numbers = triple.removeprefix("@").split("-")
    if len(numbers) != 3 or not all(each.isascii() and each.isdigit() and len(each) < 11 for each in numbers):
        raise InvalidParameter(f"invalid idmap {text!r}: {triple!r} is not DISK-MACHINE-SIZE")
    disk, seen, length = map(int, numbers)
    if not length or max(disk, seen) + length > 0xFFFFFFFF:
        raise InvalidParameter(f"invalid idmap {text!r}: there are no such ids in {triple!r}")
    return Extent(disk, _outside(seen, of_container) if triple.startswith("@") else seen, length)
