"""The build cache as users see it: what is in it, what is used by whom, and what may go."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wherry.common import times
from wherry.common.errors import InvalidParameter
from wherry.engine.builder.mounts import CacheMounts
from wherry.storage.build_cache import Record
from wherry.storage.store import Store

_SHARE = 10  # of the file system: the part that the cache may have before what is oldest goes


class CacheUsage:
    def __init__(self, store: Store, cache_mounts: CacheMounts) -> None:
        self._store = store
        self._cache_mounts = cache_mounts

    def of_results(self, records: Iterable[Record], images: Iterable[str]) -> list[Record]:
        """The records that led to layers of these images."""
        found = {
            layer.chain_id for image in images for layer in self._store.images.layers(self._store.images.get(image))
        }
        return [each for each in records if not each.chain_id or each.chain_id in found]

    def usage(self) -> list[dict[str, Any]]:
        """The API's BuildCache of each record."""
        shared = self._of_images()
        return [
            {
                "ID": record.key,
                "Type": record.kind,
                "Description": record.description,
                "InUse": record.kind == "exec.cachemount" and self._cache_mounts.is_used(record.key),
                "Shared": record.chain_id in shared,
                "Size": record.size,
                "CreatedAt": times.rfc3339(record.created),
                "LastUsedAt": times.rfc3339(record.used),
                "UsageCount": record.count,
                "Parents": None,
            }
            for record in self._store.build_cache.records()
        ]

    def prune(
        self,
        *,
        everything: bool,
        filters: Mapping[str, list[str]],
        reserved: int = 0,
        max_used: int = 0,
        min_free: int = 0,
    ) -> dict[str, Any]:
        """Forgets what builds have left, those unused for longest first.

        As long as it takes for no more than ``max_used`` bytes to be used, and for ``min_free`` bytes of the disk to be
        free; what is below ``reserved`` stays. Where neither is said, all goes that is above ``reserved``. What images
        have is only forgotten with ``everything``, and then frees nothing.
        """
        matching = _matcher(filters)
        shared = self._of_images()
        records = [
            record
            for record in self._store.build_cache.records()
            if matching(record, self._cache_mounts.is_used(record.key), record.chain_id in shared)
        ]
        total = sum(record.size for record in records)
        keep_bytes = max_used
        if min_free:
            missing = max(0, min_free - self._store.free())
            keep_bytes = min(max_used or total, total - missing)
            if total <= keep_bytes:
                return {"CachesDeleted": None, "SpaceReclaimed": 0}
        keep_bytes = max(keep_bytes, reserved)
        gone: list[str] = []
        freed = 0
        for record in records:
            if keep_bytes and total <= keep_bytes:
                break
            if self._cache_mounts.is_used(record.key) or (record.chain_id in shared and not everything):
                continue
            self._store.build_cache.remove(record)
            gone.append(record.key)
            total -= record.size
            freed += record.size if record.chain_id not in shared else 0
        if everything and not filters:
            self._store.build_cache.forget_downloads()
        self._store.images.collect_layers()
        return {"CachesDeleted": gone or None, "SpaceReclaimed": freed}

    async def collect(self) -> None:
        """Keeps the cache from filling the disk."""
        limit = self._store.capacity() // _SHARE
        records = await asyncio.to_thread(self._store.build_cache.records)
        if sum(record.size for record in records) > limit:
            self.prune(everything=False, filters={}, max_used=limit)

    def _of_images(self) -> frozenset[str]:
        """The layers that images have."""
        return frozenset(
            layer.chain_id
            for summary in self._store.images.summaries()
            for layer in self._store.images.layers(summary.image)
        )


# "label" says nothing of a record: it comes with `system prune --filter label=…`, and is passed over as in Docker.
_PRUNE_FILTERS = frozenset(("id", "type", "description", "inuse", "shared", "private", "label", "unused-for", "until"))


def _matcher(filters: Mapping[str, list[str]]) -> Callable[[Record, bool, bool], bool]:
    """Takes a record, whether it is in use, and whether an image has it, too."""
    for name in filters:
        if name.rstrip("!~") not in _PRUNE_FILTERS:
            raise InvalidParameter(f"invalid filter '{name}'")
    ages = [*filters.get("until", ()), *filters.get("unused-for", ())]
    oldest = min((times.parse_timestamp(age) for age in ages), default=None)

    def matches(record: Record, in_use: bool, shared: bool) -> bool:
        if filters.get("id") and not any(record.key.startswith(wanted) for wanted in filters["id"]):
            return False
        facts = {"type": record.kind, "description": record.description}
        flags = {"inuse": in_use, "shared": shared, "private": not shared}
        facts |= {name: "true" if flag else "false" for name, flag in flags.items()}
        if any(filters.get(name) and value not in filters[name] for name, value in facts.items()):
            return False
        return oldest is None or record.used <= oldest

    return matches
