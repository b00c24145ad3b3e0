"""Images as the user sees them: listed, inspected, tagged, removed, brought in and out, made from containers."""

import fnmatch
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from wherry.common import reference, times
from wherry.common.errors import Conflict, EngineError, InvalidParameter
from wherry.dockerfile.config import apply_changes
from wherry.engine import platforms
from wherry.engine.builder.context import stream_url
from wherry.engine.container.service import Containers
from wherry.engine.container.store import ContainerStore
from wherry.engine.context import Context, Service
from wherry.engine.events import boolean, check_known, label_matches
from wherry.engine.image.pull import Pulls, Source
from wherry.engine.image.transfers import Message, progress_message
from wherry.engine.platforms import parse as parse_platform
from wherry.model.container import Container, ContainerConfig, Status
from wherry.model.image import Descriptor, History, ImageConfig, Index, Manifest, Platform, RootFS, decode
from wherry.registry.auth import NOBODY, Credentials
from wherry.storage import image_removal
from wherry.storage.images import Image, Summary
from wherry.storage.load import Loaded
from wherry.storage.snapshots import EMPTY_LAYER
from wherry.storage.store import Store

# The platforms of an image: the manifests of the index that it was pulled by, and which of them are here.

_ATTESTATION = "attestation-manifest"
_REFERENCE_TYPE = "vnd.docker.reference.type"
_REFERENCE_DIGEST = "vnd.docker.reference.digest"


def describe_manifest(
    image: Image, store: Store, entries: ContainerStore, *, identity: bool = False
) -> list[dict[str, Any]]:
    """The API's ImageManifestSummary of each, with where it is from if ``identity`` is wanted.

    An image that came without an index has its own manifest alone.
    """
    found: dict[str, Descriptor] = {}
    for digest, _ in store.images.indexes(image.id):
        for descriptor in _entries(digest, store):
            found[descriptor.digest] = descriptor
    own = store.images.manifest(image.id)
    if own is not None and own[0] not in found:
        config = image.config
        platform = Platform(config.architecture, config.os, config.variant)
        found[own[0]] = Descriptor(own[1], own[0], store.blobs.size(own[0]), platform=platform)
    described = [_summary(descriptor, store, entries) for descriptor in found.values()]
    for each in described if identity else ():
        image_id = store.images.of_manifest(each["ID"])
        if "ImageData" in each and image_id and (origin := _identity(image_id, store)):
            each["ImageData"]["Identity"] = origin
    return described


def _identity(image_id: str, store: Store) -> dict[str, Any]:
    """The API's Identity: the repositories that have the image, and the builds here that made it.

    Whose signature it bears is not looked into, and so not told."""
    repositories = sorted({name.name for name in store.images.names(image_id) if name.digest})
    builds = [{"Ref": ref, "CreatedAt": times.rfc3339(made)} for ref, made in store.images.builds(image_id)]
    found: dict[str, Any] = {"Pull": [{"Repository": name} for name in repositories]} if repositories else {}
    return found | {"Build": builds} if builds else found


def _entries(digest: str, store: Store) -> Iterable[Descriptor]:
    try:
        return decode(store.blobs.read(digest), Index, digest).manifests
    except InvalidParameter:
        return ()  # it was read when the image was pulled, by other rules than today's


def _summary(descriptor: Descriptor, store: Store, entries: ContainerStore) -> dict[str, Any]:
    image_id = store.images.of_manifest(descriptor.digest)
    annotations = descriptor.annotations or {}
    content = _content(descriptor.digest, store) if image_id else 0
    found: dict[str, Any] = {
        "ID": descriptor.digest,
        "Descriptor": msgspec.to_builtins(descriptor),
        "Available": image_id is not None,
        "Size": {"Content": content, "Total": content},
    }
    if annotations.get(_REFERENCE_TYPE) == _ATTESTATION:
        return found | {"Kind": "attestation", "AttestationData": {"For": annotations.get(_REFERENCE_DIGEST, "")}}
    unpacked = store.images.get(image_id).size if image_id else 0
    found["Size"]["Total"] += unpacked
    users = [entry.record.id for entry in entries if image_id and entry.record.image_id == image_id]
    platform = descriptor.platform or Platform()
    return found | {
        "Kind": "image",
        "ImageData": {
            "Platform": msgspec.to_builtins(platform),
            "Size": {"Unpacked": unpacked},
            "Containers": users,
        },
    }


def _content(digest: str, store: Store) -> int:
    """Bytes of a manifest's blobs that are here."""
    manifest = decode(store.blobs.read(digest), Manifest, digest)
    blobs = {descriptor.digest: descriptor.size for descriptor in (manifest.config, *manifest.layers)}
    return sum(size for blob, size in blobs.items() if blob in store.blobs)


# ``commit``: what a container changed becomes a layer, and with its configuration an image.


class Commit(msgspec.Struct, kw_only=True):
    """What a container is to become: ``config`` overlays its configuration, and then ``changes``, as a Dockerfile's."""

    repo: str = ""
    tag: str = ""
    comment: str = ""
    author: str = ""
    pause: bool = True
    changes: Sequence[str] = ()
    config: ContainerConfig | None = None


def _base_config(record: Container, config: ContainerConfig | None) -> ContainerConfig:
    """The container's configuration, overlaid by what the request sets."""
    base = msgspec.structs.replace(record.config)
    if config is None:
        return base
    defaults = ContainerConfig()
    for field in ContainerConfig.__struct_fields__:
        value = getattr(config, field)
        if value != getattr(defaults, field):
            setattr(base, field, value)
    return base


def _describe(
    record: Container, parent: ImageConfig, config: ContainerConfig, asked: Commit, diff_ids: list[str]
) -> ImageConfig:
    """The new image's configuration: the parent's, with one line of history and what layer there is more."""
    now = times.rfc3339(times.now())
    command = " ".join([record.path, *record.args])
    step = History(
        created=now, created_by=command, author=asked.author, comment=asked.comment, empty_layer=not diff_ids
    )
    return msgspec.structs.replace(
        parent,
        created=now,
        author=asked.author,
        comment=asked.comment,
        container=record.id,
        config=msgspec.structs.replace(config, image="", hostname="", domainname="", attach_stdin=False,
                                       attach_stdout=False, attach_stderr=False, tty=False, open_stdin=False,
                                       stdin_once=False),
        rootfs=RootFS(diff_ids=[*parent.rootfs.diff_ids, *diff_ids]),
        history=[*parent.history, step],
    )  # fmt: skip


_LIST_FILTERS = {"before", "dangling", "label", "reference", "since", "until"}

Filters = Mapping[str, list[str]]


class Images(Service):
    def __init__(self, context: Context, containers: Containers, pulls: Pulls) -> None:
        super().__init__(context)
        self._containers = containers
        self._pulls = pulls

    # --- looking

    def list_all(
        self,
        *,
        show_all: bool,
        filters: Filters,
        digests: bool = False,
        shared_size: bool = False,
        manifests: bool = False,
        identity: bool = False,
    ) -> list[dict[str, Any]]:
        """The API's ImageSummary of each, the youngest first; without those that are only a step to another image."""
        check_known(filters, _LIST_FILTERS)
        for pattern in filters.get("reference", ()):
            _check_pattern(pattern)
        found = []
        for summary in self._store.images.summaries(shared=shared_size):
            step = (summary.children or summary.in_index) and not summary.tags and not summary.digests
            if (show_all or not step) and self._passes(summary, filters):
                found.append(self._summary(summary, filters.get("reference", ())))
                if manifests:
                    of_each = describe_manifest(summary.image, self._store, self._entries, identity=identity)
                    # Beside the sizes of each, its content and what that unpacks to, this is their sum.
                    found[-1] |= {
                        "Manifests": of_each,
                        "Size": sum(each["Size"]["Total"] for each in of_each) or summary.image.size,
                    }
        return found

    def _passes(self, summary: Summary, filters: Filters) -> bool:
        image = summary.image
        labels = image.config.config.labels if image.config.config else {}
        if "dangling" in filters and boolean("dangling", filters["dangling"]) != summary.dangling:
            return False
        if not all(label_matches(labels, wanted) for wanted in filters.get("label", ())):
            return False
        if any(_made(image) >= _made(self._store.images.get(name)) for name in filters.get("before", ())):
            return False
        if any(_made(image) <= _made(self._store.images.get(name)) for name in filters.get("since", ())):
            return False
        if any(image.created >= times.parse_timestamp(moment) / 1e9 for moment in filters.get("until", ())):
            return False
        patterns = filters.get("reference", ())
        return not patterns or any(_matches(name, patterns) for name in (*summary.tags, *summary.digests))

    def _summary(self, summary: Summary, patterns: Sequence[str]) -> dict[str, Any]:
        image = summary.image
        names = [name for name in summary.tags if not patterns or _matches(name, patterns)]
        digests = [name for name in summary.digests if not patterns or _matches(name, patterns)]
        return {
            "Id": image.id,
            "ParentId": image.parent,
            "RepoTags": names,
            "RepoDigests": digests,
            "Created": image.created,
            "Size": image.size,
            "SharedSize": summary.shared_size,
            "Labels": (image.config.config.labels if image.config.config else None) or None,
            "Containers": -1,
        }

    def _get(self, name: str, platform: str = "") -> Image:
        """Raises NotFound, also for one that is for another platform than that; "" is any."""
        return platforms.find(self._store.images, name, platform)

    def inspect(self, name: str, *, platform: str = "", manifests: bool = False) -> dict[str, Any]:
        """The API's ImageInspect."""
        image = self._get(name, platform)
        config = image.config
        names = self._store.images.names(image.id)
        found: dict[str, Any] = {
            "Id": image.id,
            "RepoTags": [name.familiar for name in names if name.tag],
            "RepoDigests": [name.familiar for name in names if name.digest],
            "Parent": image.parent,
            "Comment": config.comment or (config.history[-1].comment if config.history else ""),
            "Created": config.created or times.NEVER,
            "DockerVersion": config.docker_version,
            "Author": config.author,
            "Config": _shown(config.config) if config.config else None,
            "Architecture": config.architecture,
            "Os": config.os,
            "Size": image.size,
            "GraphDriver": {"Name": "overlay2", "Data": self._store.snapshots.describe_image(image.chain_id)},
            "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
            "Metadata": {"LastTagTime": times.rfc3339(image.tagged)},
        }
        if config.variant:
            found["Variant"] = config.variant
        if config.os_version:
            found["OsVersion"] = config.os_version
        manifest = self._store.images.manifest(image.id)
        if manifest:
            size = len(self._store.blobs.read(manifest[0]))
            found["Descriptor"] = {"mediaType": manifest[1], "digest": manifest[0], "size": size}
        if origin := _identity(image.id, self._store):
            found["Identity"] = origin
        if manifests:
            found["Manifests"] = describe_manifest(image, self._store, self._entries)
        return found

    def history(self, name: str, platform: str = "") -> list[dict[str, Any]]:
        return self._store.images.history(self._get(name, platform).id)

    # --- changing

    def note_build(self, image_id: str, ref: str, made: int) -> None:
        """Notes which build of BuildKit's clients has made it, for its Identity."""
        self._store.images.note_build(image_id, ref, made)

    def document(self, name: str) -> bytes:
        """An image's configuration as it is stored. Raises NotFound."""
        return self._store.images.raw(self._get(name).id)

    def built(self, image_id: str) -> None:
        """Tells of what a build has made, whether it gets a name or not."""
        self._tell(self._store.images.get(image_id), "create", image_id)

    def tag(self, name: str, repo: str, tag: str = "", *, document: str = "") -> None:
        """``document``: what the new name stands for, where that is more than the image; as the old name does."""
        image = self._store.images.get(name)
        target = reference.parse_to_tag(repo, tag)
        if not reference.is_image_id(name):
            document = self._store.images.document_of(reference.parse(name).with_default_tag())
        self._store.images.tag(image.id, target, document)
        self._tell(image, "tag", target.familiar)

    async def remove(
        self, name: str, *, force: bool = False, prune: bool = True, platforms: Sequence[str] = ()
    ) -> list[dict[str, str]]:
        """Takes a name away, and the image with its last one; what went, in order. Raises NotFound and Conflict.

        ``platforms``: all of those that the image must be for; it has one.
        """
        image = self._store.images.get(name)
        for platform in platforms:
            self._get(name, platform)
        removed = image_removal.remove(self._store.images, name, force=force, prune=prune, users=self._users)
        for item in removed:
            if "Untagged" in item:
                self._tell(image, "untag", item["Untagged"])
            elif item["Deleted"] == image.id:
                self._tell(image, "delete", image.id)
        return removed

    def _users(self, image_id: str) -> Iterable[tuple[str, bool]]:
        for entry in self._entries:
            if image_id in entry.images:
                yield entry.record.id, entry.record.state.running

    async def commit(self, name: str, asked: Commit) -> str:
        """Makes an image of a container and gives its id. One that runs is paused meanwhile, unless told not to."""
        target = reference.parse_to_tag(asked.repo, asked.tag) if asked.repo else None
        entry = self._containers.find(name)
        record = entry.record
        if record.state.status in (Status.REMOVING, Status.DEAD):
            raise Conflict(f"You cannot commit container {record.id} which is {record.state.status}")
        new_config = apply_changes(_base_config(record, asked.config), list(asked.changes))
        paused = asked.pause and record.state.status is Status.RUNNING
        if paused:
            try:
                await self._containers.pause(record.id)
            except Conflict:  # it has just ended, or somebody else paused it, or nobody can
                paused = False
        try:
            layer = await self._store.snapshots.commit(record.id)
        except EngineError:
            self._containers.get(record.id)  # it may have been removed meanwhile, which is the reason then
            raise
        finally:
            if paused and entry.record.state.status is Status.PAUSED:
                await self._containers.unpause(record.id)
        parent = self._store.images.get(record.image_id)
        diff_ids = [] if layer.diff_id == EMPTY_LAYER else [layer.diff_id]
        image = _describe(record, parent.config, new_config, asked, diff_ids)
        image_id = self._store.images.create(image, parent=record.image_id, layer=layer)
        if not diff_ids:
            self._store.images.collect_layers()
        if target is not None:
            self._store.images.tag(image_id, target)
            labels = image.config.labels if image.config else {}
            self._events.publish("image", "tag", image_id, labels | {"name": target.familiar})
        self._events.container(
            record, "commit", comment=asked.comment, imageID=image_id, imageRef=target.familiar if target else ""
        )
        return image_id

    # --- in and out

    async def load(
        self, stream: AsyncIterable[bytes], *, quiet: bool = True, wanted: Sequence[str] = ()
    ) -> AsyncIterator[Message]:
        """Takes in an archive, or what of it is for some platforms; the API's progress messages.

        Nothing of a broken one stays.
        """
        async for event in self._store.loader.load(stream, platforms.filter_for(wanted)):
            if isinstance(event, Loaded):
                for message in self._loaded(event):
                    yield message
            elif not quiet:
                yield progress_message("Loading layer", event.name, event.current, event.total)

    def _loaded(self, event: Loaded) -> Iterable[Message]:
        for name, old in event.replaced:
            text = f"The image {name.familiar} already exists, renaming the old one with ID {old} to empty string\n"
            yield {"stream": text}
        image = self._store.images.get(event.id)
        for name in event.names:
            yield {"stream": f"Loaded image: {name.familiar}\n"}
            self._tell(image, "load", name.familiar)
        if not event.names:
            yield {"stream": f"Loaded image ID: {event.id}\n"}
            self._tell(image, "load", event.id)

    def save(self, names: Sequence[str], wanted: Sequence[str] = ()) -> AsyncIterator[bytes]:
        """One archive of these images, of each that for every platform that is said. Raises NotFound before its first
        byte."""

        def variants(name: str) -> list[str]:
            return [platforms.find(self._store.images, name, platform).id for platform in wanted or ("",)]

        for chosen in self._store.saver.choose(names, variants):
            self._tell(chosen.image, "save", chosen.image.id)
        return self._store.saver.save(names, variants)

    async def import_(
        self,
        source: AsyncIterable[bytes] | str,
        *,
        repo: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: str = "",
    ) -> AsyncIterator[Message]:
        """Makes an image of one layer of a tar, or of a tar behind a URL; one without a scheme is of http."""
        target = reference.parse_to_tag(repo, tag) if repo else None
        config = apply_changes(ContainerConfig(), changes)
        os_name, architecture, variant = platforms.parse_parts(platform)
        if isinstance(source, str):
            url = source if "://" in source else f"http://{source}"
            source = await _begun(stream_url(url))
            yield {"status": f"Downloading from {url}"}
        now = times.rfc3339(times.now())
        made = ImageConfig(
            architecture=architecture,
            os=os_name,
            variant=variant,
            created=now,
            comment=message,
            config=config,
            history=[History(created=now, comment=message)],
        )
        try:
            image_id = await self._store.loader.import_tar(source, made)
        except InvalidParameter as error:
            raise EngineError(error.message) from None  # Docker's status for what is no tar is 500
        image = self._store.images.get(image_id)
        if target is not None:
            self._store.images.tag(image_id, target)
            self._tell(image, "tag", target.familiar)
        self._tell(image, "import", image_id)
        yield {"status": image_id}

    def pull(self, name: str, tag: str, platform: str, credentials: Credentials = NOBODY) -> AsyncIterator[Message]:
        """Fetches an image, or all of a repository's tags when there is none; the API's progress messages."""
        return self._pulls.pull(name, tag, platform, credentials)

    async def bring(self, source: Source, digest: str, platform: str) -> tuple[str, bool]:
        """An image without a name, and whether it was not here before. Raises EngineError."""
        return await self._pulls.bring(source, digest, parse_platform(platform))

    def _tell(self, image: Image, action: str, name: str) -> None:
        labels = image.config.config.labels if image.config.config else {}
        self._events.publish("image", action, image.id, labels | {"name": name})


def _shown(config: ContainerConfig) -> dict[str, Any]:
    """Without labels they are null, as those of a container are not."""
    found: dict[str, Any] = msgspec.to_builtins(config)
    return found | {"Labels": config.labels or None}


async def _begun(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, once the server has answered: that it has nothing is an answer of ours, and not a line of progress."""
    first = await anext(source, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for chunk in source:
            yield chunk

    return whole()


def _made(image: Image) -> int:
    """When, in nanoseconds: images of one script are made within a second."""
    try:
        return times.parse_rfc3339(image.config.created or times.NEVER)
    except ValueError:
        return image.created * 1_000_000_000


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a familiar name, with or without its tag, is meant by a pattern; "*" does not match a slash."""
    bare = name.partition("@")[0]
    bare = bare if ":" not in bare.rpartition("/")[2] else bare.rpartition(":")[0]
    return any(_match_path(candidate, pattern) for pattern in patterns for candidate in (name, bare))


def _check_pattern(text: str) -> None:
    """Raises InvalidParameter for brackets that do not close, and a backslash at the end, as Go's path.Match."""
    rest = re.sub(r"\\.|\[\^?(\\.|[^\]\\])+\]", "", text, flags=re.DOTALL)
    if "[" in rest or "\\" in rest:
        raise InvalidParameter("syntax error in pattern")


def _match_path(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(
        fnmatch.fnmatchcase(part, want) for part, want in zip(parts, wanted, strict=True)
    )
