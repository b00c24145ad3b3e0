"""Where files are taken from: a directory of the host, or a stage's or an image's tree; and a digest of them."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from wherry.dockerfile.ignore import Rule
from wherry.storage.build_cache import BuildCache
from wherry.storage.drafts import Tree, Workspace

Patterns = Sequence[Rule]


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
    """Digests of files in one build. Those in finished layers are remembered for all, those in directories for this."""

    def __init__(self, workspace: Workspace, cache: BuildCache) -> None:
        self._workspace = workspace
        self._cache = cache
        self._of_directories: dict[str, str] = {}

    async def digest(
        self, origin: Origin, patterns: Sequence[str], excluded: Patterns = (), *, parents: bool = False
    ) -> str:
        """A digest of the contents of what the patterns stand for, and in a tree of who owns them.

        Raises NotFound for a source that is not there.
        """
        layer = origin.tree.known if origin.is_tree else ""
        place = json.dumps([layer or origin.directory, list(patterns), list(excluded), parents])
        found = self._cache.content_digest(place) if layer else self._of_directories.get(place)
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
        if layer:
            self._cache.set_content_digest(place, digest)
        elif not origin.is_tree:
            self._of_directories[place] = digest
        return digest
