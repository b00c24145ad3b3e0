"""Images: configurations by digest, the names that point to them, and what is said about them.

An image is its configuration: the digest of that JSON is the image's id, and the diff ids in it name the layers. The
bytes are kept as they came, in the blobs. Beside them, rows say which image was made from which (``parent``), how the
images are called (``names``: a tag or a manifest's digest each), and which manifests they were pulled with.
"""

import datetime
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from wherry.common import reference
from wherry.common.errors import InvalidParameter, NotFound
from wherry.common.reference import Reference
from wherry.model.image import INDEXES, MANIFESTS, ImageConfig, Manifest, decode
from wherry.storage.content import Blobs, chain_ids_of, digest_of
from wherry.storage.database import Database
from wherry.storage.layers import Layer, Layers, boot_id
from wherry.storage.snapshots import LayerInfo, Snapshots

_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time

_SCHEMA = (
    """
    CREATE TABLE images (
        id TEXT PRIMARY KEY,
        parent TEXT NOT NULL,       -- an image's id, or ''
        chain_id TEXT NOT NULL,     -- of the top layer, or ''
        size INTEGER NOT NULL,      -- bytes of the files in all layers
        tagged INTEGER NOT NULL,    -- when it last got a name; ns since the epoch, 0 for never
        boot TEXT
    )
    """,
    """
    CREATE TABLE names (
        name TEXT NOT NULL,         -- docker.io/library/debian
        tag TEXT NOT NULL,          -- one of tag and
        digest TEXT NOT NULL,       -- digest is ''
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        PRIMARY KEY (name, tag, digest)
    )
    """,
    "CREATE INDEX names_by_image ON names (image)",
    """
    CREATE TABLE manifests (
        digest TEXT NOT NULL,
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        media_type TEXT NOT NULL,
        PRIMARY KEY (digest, image)
    )
    """,
    # The document that a tag stands for, where that is more than an image: an index, or a manifest with annotations.
    "ALTER TABLE names ADD COLUMN document TEXT NOT NULL DEFAULT ''",
    """
    CREATE TABLE builds (
        ref TEXT NOT NULL,          -- what BuildKit's client calls the build
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        made INTEGER NOT NULL,      -- ns since the epoch
        PRIMARY KEY (image, ref)
    )
    """,
)

MISSING = "<missing>"
_BUILDS = 16  # of an image, that are kept


class Image(msgspec.Struct):
    """``size`` in bytes; ``created`` in seconds and ``tagged`` in nanoseconds since the epoch. ``config`` is not to be
    changed."""

    id: str
    config: ImageConfig
    parent: str
    chain_id: str
    size: int
    tagged: int

    @property
    def created(self) -> int:
        return seconds(self.config.created)


class Summary(msgspec.Struct):
    """A line of a list: an image with its names, as people write them. ``children`` are the ids of those made of it.

    ``in_index``: a name leads to it by an index, beside another image.
    """

    image: Image
    tags: list[str]
    digests: list[str]
    children: list[str]
    shared_size: int
    in_index: bool = False

    @property
    def dangling(self) -> bool:
        """Nothing leads to it: it has no name, and it is no step on the way to another."""
        return not self.tags and not self.children and not self.in_index


class Images:
    def __init__(self, database: Database, blobs: Blobs, layers: Layers, snapshots: Snapshots) -> None:
        self._database = database
        self._blobs = blobs
        self._layers = layers
        self._snapshots = snapshots
        self._configs: dict[str, ImageConfig] = {}
        database.migrate("images", _SCHEMA)

    # Finding

    def get(self, name: str) -> Image:
        """The image with this name, id, or beginning of an id. Raises NotFound in Docker's words."""
        return self._image(self._id_of(name))

    def find_id(self, name: str) -> str | None:
        """Which image a name, an id or the beginning of one means."""
        try:
            return self._id_of(name)
        except (NotFound, InvalidParameter):
            return None

    def find(self, image_id: str) -> Image | None:
        """The image with exactly this id."""
        row = self._database.one("SELECT id FROM images WHERE id = ?", (image_id,))
        return self._image(image_id) if row else None

    def resolve(self, name: Reference) -> str | None:
        """The id of the image that a name with a tag or a digest points to."""
        wanted = name.with_default_tag()
        if wanted.digest:  # it says exactly which one; a tag beside it is not looked at, as in Docker
            row = self._database.one(
                "SELECT image FROM names WHERE name = ? AND digest = ?", (wanted.name, wanted.digest)
            )
        else:
            row = self._database.one("SELECT image FROM names WHERE name = ? AND tag = ?", (wanted.name, wanted.tag))
        return row[0] if row else None

    def _id_of(self, name: str) -> str:
        if reference.is_image_id(name):
            image_id = name if name.startswith("sha256:") else f"sha256:{name}"
            if self._database.one("SELECT 1 FROM images WHERE id = ?", (image_id,)):
                return image_id
            if (found := self.of_manifest(image_id)) is not None:
                return found  # BuildKit's clients call an image by what it was exported as
            raise NotFound(f"No such image: {image_id}")
        parsed = reference.parse(name)
        found = self.resolve(parsed) or self._by_prefix(name)
        if found is None:
            raise NotFound(f"No such image: {parsed.with_default_tag().familiar}")
        return found

    def _by_prefix(self, text: str) -> str | None:
        prefix = text.removeprefix("sha256:")
        if not prefix or set(prefix) - set("0123456789abcdef"):
            return None
        rows = self._database.query("SELECT id FROM images WHERE id GLOB ? LIMIT 2", (f"sha256:{prefix}*",))
        if len(rows) > 1:
            raise InvalidParameter(f"the id {text} is ambiguous: more than one image's id begins with it")
        return rows[0][0] if rows else None

    def _image(self, image_id: str) -> Image:
        row = self._database.one("SELECT parent, chain_id, size, tagged FROM images WHERE id = ?", (image_id,))
        if row is None:
            raise NotFound(f"No such image: {image_id}")
        return Image(image_id, self._config(image_id), *row)

    def _config(self, image_id: str) -> ImageConfig:
        if image_id not in self._configs:
            self._configs[image_id] = decode(self._blobs.read(image_id), ImageConfig, "image configuration")
        return self._configs[image_id]

    # Saying

    def count(self) -> int:
        row = self._database.one("SELECT count(*) FROM images")
        return int(row[0]) if row else 0

    def summaries(self, *, shared: bool = False) -> list[Summary]:
        """Every image, the youngest first. ``shared_size`` is -1 unless asked for: bytes it shares with others."""
        tags: dict[str, list[str]] = {}
        manifest_digests: dict[str, list[str]] = {}
        for image_id, name in self._all_names():
            (manifest_digests if name.digest else tags).setdefault(image_id, []).append(name.familiar)
        children: dict[str, list[str]] = {}
        rows = self._database.query("SELECT id, parent FROM images")
        for image_id, parent in rows:
            children.setdefault(parent, []).append(image_id)
        images = [self._image(image_id) for image_id, _ in rows]
        sizes = self._shared_sizes(images) if shared else {}
        in_indexes = self.in_indexes()
        found = [
            Summary(
                image,
                tags.get(image.id, []),
                manifest_digests.get(image.id, []),
                children.get(image.id, []),
                sizes.get(image.id, -1),
                image.id in in_indexes,
            )
            for image in images
        ]
        return sorted(found, key=lambda summary: (-summary.image.created, summary.image.id))

    def names(self, image_id: str) -> list[Reference]:
        """What the image is called, sorted: with tags, and with the digests of its manifests."""
        return [name for found, name in self._all_names() if found == image_id]

    def note_build(self, image_id: str, ref: str, made: int) -> None:
        """A build made this image, or found it made. Nothing happens when it is gone already."""
        self._database.execute(
            "INSERT OR REPLACE INTO builds (ref, image, made) SELECT ?, id, ? FROM images WHERE id = ?",
            (ref, made, image_id),
        )
        self._database.execute(
            "DELETE FROM builds WHERE image = ? AND made < "
            "(SELECT min(made) FROM (SELECT made FROM builds WHERE image = ? ORDER BY made DESC LIMIT ?))",
            (image_id, image_id, _BUILDS),
        )

    def builds(self, image_id: str) -> list[tuple[str, int]]:
        """(ref, when in nanoseconds) of the last builds that made it, by their refs."""
        return list(self._database.query("SELECT ref, made FROM builds WHERE image = ? ORDER BY ref", (image_id,)))

    def tags(self, name: str) -> list[tuple[Reference, str]]:
        """The tags of a whole name (docker.io/library/debian), each with the image's id."""
        rows = self._database.query("SELECT tag, image FROM names WHERE name = ? AND tag != '' ORDER BY tag", (name,))
        return [(_reference(name, tag, ""), image_id) for tag, image_id in rows]

    def layers(self, image: Image) -> list[Layer]:
        """The lowest first."""
        return self._layers.chain(image.chain_id)

    def raw(self, image_id: str) -> bytes:
        """The configuration as it came."""
        return self._blobs.read(image_id)

    def manifest(self, image_id: str) -> tuple[str, str] | None:
        """(digest, media type) of a manifest that the image came with, and whose blobs are all here.

        They are not when a layer was here before, from an archive that had it compressed in another way, nor those of
        layers that were packed for a registry.
        """
        for digest, media_type in self.manifests(image_id):
            found = decode(self._blobs.read(digest), Manifest, digest)
            if all(layer.digest in self._blobs for layer in found.layers):
                return digest, media_type
        return None

    def manifests(self, image_id: str) -> list[tuple[str, str]]:
        """(digest, media type) of all that it came with or was pushed with, whether or not their blobs are here."""
        documents = self._documents(image_id)
        return [each for each in documents if each[1] in MANIFESTS and each[0] in self._blobs]

    def indexes(self, image_id: str) -> list[tuple[str, str]]:
        """(digest, media type) of the indexes that led to the image."""
        return [each for each in self._documents(image_id) if each[1] in INDEXES]

    def of_manifest(self, digest: str) -> str | None:
        """The id of an image that came with this manifest."""
        row = self._database.one("SELECT image FROM manifests WHERE digest = ? LIMIT 1", (digest,))
        return row[0] if row else None

    def document_of(self, name: Reference) -> str:
        """The digest of the document that a tag stands for; "" where it is just an image."""
        row = self._database.one(
            "SELECT document FROM names WHERE name = ? AND tag = ? AND digest = ''", (name.name, name.tag)
        )
        return row[0] if row else ""

    def media_type(self, document: str) -> str:
        """What a document that is kept is; "" for none."""
        row = self._database.one("SELECT media_type FROM manifests WHERE digest = ? LIMIT 1", (document,))
        return row[0] if row else ""

    def with_document(self, digest: str) -> list[str]:
        """The ids of the images that a manifest or an index is kept for."""
        rows = self._database.query("SELECT image FROM manifests WHERE digest = ? ORDER BY rowid", (digest,))
        return [row[0] for row in rows]

    def in_indexes(self) -> frozenset[str]:
        """The ids of the images that are in an index which a tag stands for."""
        rows = self._database.query(
            "SELECT manifests.image FROM manifests JOIN names ON names.document = manifests.digest"
        )
        return frozenset(row[0] for row in rows)

    def names_with_blob(self, digest: str) -> list[Reference]:
        """What the images are called that have a layer which came as this blob, or was pushed as it; those from a
        registry first."""
        rows = self._database.query(
            """
            WITH RECURSIVE above (chain_id) AS (
                SELECT chain_id FROM layers
                WHERE blob = ? OR diff_id IN (SELECT diff_id FROM pushed_as WHERE digest = ?)
                UNION SELECT layers.chain_id FROM layers JOIN above ON layers.parent = above.chain_id
            )
            SELECT name, tag, digest FROM names
            WHERE image IN (SELECT id FROM images WHERE chain_id IN above) ORDER BY digest = '', name
            """,
            (digest, digest),
        )
        return [_reference(name, tag, digest) for name, tag, digest in rows]

    def _documents(self, image_id: str) -> list[tuple[str, str]]:
        rows = self._database.query(
            "SELECT digest, media_type FROM manifests WHERE image = ? ORDER BY digest", (image_id,)
        )
        return [(digest, media_type) for digest, media_type in rows]

    def platform(self, image_id: str) -> str:
        """The operating system that the image is for; this machine's when the image is gone."""
        image = self.find(image_id)
        return image.config.os or "linux" if image else "linux"

    def chain_size(self, chain_id: str) -> int:
        """The bytes of the files in a layer and all below it."""
        return sum(layer.size for layer in self._layers.chain(chain_id))

    def descendants(self, name: str) -> set[str]:
        """The ids of an image and of all that were made of it. Raises NotFound.

        They are known by their histories and layers, also where they were made elsewhere, or by who notes no parents.
        """
        ancestor = self.get(name)
        rows = self._database.query("SELECT id FROM images")
        wanted = [ancestor.id, *(row[0] for row in rows if _begins_with(self._config(row[0]), ancestor.config))]
        found: set[str] = set()
        while wanted:
            image_id = wanted.pop()
            if image_id not in found:
                found.add(image_id)
                wanted += self.children(image_id)
        return found

    def history(self, name: str) -> list[dict[str, Any]]:
        """How the image came about, the last step first, in the API's shape. Steps that no image stands for are
        "<missing>"."""
        image = self.get(name)
        sizes = iter([layer.size for layer in self.layers(image)])
        steps: list[dict[str, Any]] = [
            {
                "Id": MISSING,
                "Created": seconds(step.created),
                "CreatedBy": step.created_by,
                "Tags": None,
                "Size": 0 if step.empty_layer else next(sizes, 0),
                "Comment": step.comment,
            }
            for step in image.config.history
        ]
        steps.reverse()
        ancestor: Image | None = image
        while ancestor is not None:
            later = len(steps) - len(ancestor.config.history)
            if 0 <= later < len(steps):
                tags = [found.familiar for found in self.names(ancestor.id) if found.tag]
                steps[later] |= {"Id": ancestor.id, "Tags": tags or None}
            ancestor = self.find(ancestor.parent) if ancestor.parent else None
        return steps

    def _all_names(self) -> list[tuple[str, Reference]]:
        rows = self._database.query("SELECT image, name, tag, digest FROM names ORDER BY name, tag, digest")
        return [(image_id, _reference(name, tag, digest)) for image_id, name, tag, digest in rows]

    def children(self, image_id: str) -> list[str]:
        """The ids of the images that were made of this one."""
        return [row[0] for row in self._database.query("SELECT id FROM images WHERE parent = ?", (image_id,))]

    def _shared_sizes(self, images: Sequence[Image]) -> dict[str, int]:
        chains = {image.id: self.layers(image) for image in images}
        users: dict[str, int] = {}
        for chain in chains.values():
            for layer in chain:
                users[layer.chain_id] = users.get(layer.chain_id, 0) + 1
        return {
            image_id: sum(layer.size for layer in chain if users[layer.chain_id] > 1)
            for image_id, chain in chains.items()
        }

    # Changing

    def create(self, config: ImageConfig, *, parent: str = "", layer: LayerInfo | None = None) -> str:
        """Makes an image of a configuration whose layers are all there; its id. ``layer`` is the newest of them."""
        image_id = self.add(msgspec.json.encode(config), parent=parent)
        if layer is not None:
            self._layers.release([layer.chain_id])
        return image_id

    def add(self, raw: bytes, *, parent: str = "", documents: Sequence[tuple[bytes, str]] = ()) -> str:
        """The same of JSON that must stay as it is. ``documents`` are the manifest that it came with and the indexes
        that led to it, each with its media type.

        Raises InvalidParameter for what is no configuration, and NotFound when a layer is not there.
        """
        config = decode(raw, ImageConfig, "image configuration")
        chain = chain_ids_of(config.rootfs.diff_ids)
        layers = self._layers.among(chain)
        for chain_id in chain:
            if chain_id not in layers:
                raise NotFound(f"layer {chain_id} is not here")
        size = sum(layer.size for layer in layers.values())
        # A new image is dropped if the machine goes down before the next sync of everything: no need to wait for one.
        known = self._database.one("SELECT 1 FROM images WHERE id = ?", (digest_of(raw),)) is not None
        image_id = self._blobs.write(raw, sync=known)
        kept = [(self._blobs.write(document, sync=known), media_type) for document, media_type in documents]
        with self._database.transaction():
            self._database.execute(
                "INSERT OR IGNORE INTO images (id, parent, chain_id, size, tagged, boot) VALUES (?, ?, ?, ?, 0, ?)",
                (image_id, parent, chain[-1] if chain else "", size, boot_id()),
            )
            if parent:
                self._database.execute("UPDATE images SET parent = ? WHERE id = ? AND parent = ''", (parent, image_id))
            for digest, media_type in kept:
                self._database.execute(
                    "INSERT OR REPLACE INTO manifests VALUES (?, ?, ?)", (digest, image_id, media_type)
                )
        self._layers.release(chain)
        return image_id

    def keep_document(self, image_id: str, raw: bytes, media_type: str) -> str:
        """Keeps a manifest or an index as one of the image's; its digest."""
        digest = digest_of(raw)
        if self._database.one("SELECT 1 FROM manifests WHERE digest = ? AND image = ?", (digest, image_id)) is None:
            self._blobs.write(raw)
            self._database.execute("INSERT INTO manifests VALUES (?, ?, ?)", (digest, image_id, media_type))
        return digest

    def transaction(self) -> AbstractContextManager[None]:
        """Several changes, all or none."""
        return self._database.transaction()

    def set_parent(self, image_id: str, parent: str) -> None:
        """Notes which image this one was made of."""
        self._database.execute("UPDATE images SET parent = ? WHERE id = ?", (parent, image_id))

    def tag(self, image_id: str, name: Reference, document: str = "", *, is_new: bool = True) -> str | None:
        """Gives an image a name with a tag or a digest; the id of the image that had it before, if another one did.

        ``document`` is what the name stands for where that is more than the image. ``is_new``: it was given here and
        now, not brought along.
        """
        image = self.get(image_id)
        name = name.with_default_tag()
        key = (name.name, "" if name.digest else name.tag, name.digest)
        with self._database.transaction():
            row = self._database.one("SELECT image FROM names WHERE name = ? AND tag = ? AND digest = ?", key)
            self._database.execute("INSERT OR REPLACE INTO names VALUES (?, ?, ?, ?, ?)", (*key, image.id, document))
            if is_new:
                self._database.execute("UPDATE images SET tagged = ? WHERE id = ?", (time.time_ns(), image.id))
        return row[0] if row and row[0] != image.id else None

    def untag(self, image_id: str, name: Reference) -> Reference:
        """Takes a name from an image; the name as it was kept."""
        tag = "" if name.digest else name.tag
        self._database.execute(
            "DELETE FROM names WHERE name = ? AND tag = ? AND digest = ? AND image = ?",
            (name.name, tag, name.digest, image_id),
        )
        return _reference(name.name, tag, name.digest)

    def forget(self, image_id: str) -> None:
        """Removes an image, its names, configuration and manifests; its layers are for ``collect_layers``."""
        gone = self._database.query("SELECT digest FROM manifests WHERE image = ?", (image_id,))
        self._database.execute("DELETE FROM images WHERE id = ?", (image_id,))
        self._configs.pop(image_id, None)
        self._blobs.delete(image_id)
        for (digest,) in gone:
            if self._database.one("SELECT 1 FROM manifests WHERE digest = ?", (digest,)) is None:
                self._blobs.delete(digest)

    def collect_layers(self) -> list[str]:
        """Removes the layers that neither an image nor a container needs; their chain ids."""
        images = frozenset(row[0] for row in self._database.query("SELECT chain_id FROM images"))
        return self._layers.collect(images | self._snapshots.chain_ids())

    # At the start

    def drop_incomplete(self) -> None:
        """Forgets images of which something is not there, or was not on the disk when the machine went down."""
        for image_id, chain_id, boot in self._database.query("SELECT id, chain_id, boot FROM images"):
            unsynced = boot is not None and boot != boot_id()
            if unsynced or image_id not in self._blobs or (chain_id and chain_id not in self._layers):
                self.forget(image_id)

    def blobs(self) -> frozenset[str]:
        """The digests of the blobs that images need, without those of their layers."""
        rows = self._database.query("SELECT id FROM images UNION SELECT digest FROM manifests")
        return frozenset(row[0] for row in rows)

    def begin_sync(self) -> Callable[[], None]:
        """As ``Layers.begin_sync``."""
        unsynced = [row[0] for row in self._database.query("SELECT id FROM images WHERE boot IS NOT NULL")]

        def end() -> None:
            if self._database.closed:
                return
            with self._database.transaction():
                for image_id in unsynced:
                    self._database.execute("UPDATE images SET boot = NULL WHERE id = ?", (image_id,))

        return end


def seconds(created: str | None) -> int:
    """A configuration's time in seconds since the epoch; that of the year 1 when it has none that makes sense, as in
    Docker, whose clients know it for none."""
    try:
        return int(datetime.datetime.fromisoformat(created or _NEVER).timestamp())
    except (ValueError, OverflowError):
        return int(datetime.datetime.fromisoformat(_NEVER).timestamp())


def _begins_with(config: ImageConfig, base: ImageConfig) -> bool:
    steps, layers = len(base.history), len(base.rootfs.diff_ids)
    is_more = (len(config.history), len(config.rootfs.diff_ids)) != (steps, layers)
    return (
        is_more
        and steps + layers > 0
        and config.rootfs.diff_ids[:layers] == base.rootfs.diff_ids
        and config.history[:steps] == base.history
    )


def _reference(name: str, tag: str, digest: str) -> Reference:
    domain, _, path = name.partition("/")
    return Reference(domain, path, tag, digest)
