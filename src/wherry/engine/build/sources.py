"""Where files are taken from: a directory of the host, or a stage's or an image's tree; and a digest of them."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from wherry.storage.build_cache import BuildCache
from wherry.storage.drafts import Tree, Workspace

Patterns = Sequence[tuple[bool, str]]


class Origin(msgspec.Struct, frozen=True):
    """``directory`` of the host, or a ``tree``. ``ignored`` says what of it is as if not there."""

    directory: str = ""
    tree: Tree = Tree()
    ignored: Patterns = []

    @property
    def is_tree(self) -> bool:
        return not self.directory

    def describe(self, workspace: Workspace) -> dict[str, Any]:
        """For a worker's job."""
        if self.directory:
            return {"directory": self.directory}
        mount = workspace.view(self.tree)
        assert mount is not None, "the root of a tree is always there"
        return {"mount": {"type": mount.type, "source": mount.source, "target": "", "options": list(mount.options)}}


class Sources:
    """Digests of files, those in finished layers remembered."""

    def __init__(self, workspace: Workspace, cache: BuildCache) -> None:
        self._workspace = workspace
        self._cache = cache

    async def digest(
        self, origin: Origin, patterns: Sequence[str], excluded: Patterns = (), *, parents: bool = False
    ) -> str:
        """A digest of the contents of what the patterns stand for, and in a tree of who owns them.

        Raises NotFound for a source that is not there.
        """
        place = ""
        if origin.is_tree and origin.tree.known:
            place = json.dumps([origin.tree.known, list(patterns), list(excluded), parents])
            found = self._cache.content_digest(place)
            if found is not None:
                return found
        job = {
            "kind": "digest",
            "source": origin.describe(self._workspace),
            "patterns": list(patterns),
            "ignored": origin.ignored,
            "excluded": list(excluded),
            "parents": parents,
            "owners": origin.is_tree,
        }
        digest = str(await self._workspace.ask(job))
        if place:
            self._cache.set_content_digest(place, digest)
        return digest
