"""COPY and ADD: files of the context, of stages and images, of URLs and repositories, and of the Dockerfile itself."""

import functools
import json
import re
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from wherry.common.ignore import InvalidPattern, PatternMatcher, Rule
from wherry.dockerfile import instructions as ins
from wherry.dockerfile.lexer import DockerfileError
from wherry.engine.builder import git, history
from wherry.engine.builder.context import Download, download, is_url
from wherry.engine.builder.stage import Walker
from wherry.engine.builder.steps import Plan, Steps, step_inputs, step_key
from wherry.storage.build_cache import BuildCache, Known
from wherry.storage.build_snapshots import ActiveSnapshot, Tree, Workspace
from wherry.storage.worker import client, jobs

# Where files are taken from: a directory of the host, or a stage's or an image's tree; and a digest of them.

Patterns = Sequence[Rule]
_VERSION = 2  # counts up when digests come to be of something else


class Origin(msgspec.Struct, frozen=True):
    """``directory`` of the host, or a ``tree``. ``ignored`` says what of it is as if not there."""

    directory: str = ""
    tree: Tree = Tree()
    ignored: Patterns = []

    @property
    def is_tree(self) -> bool:
        return not self.directory

    def source(self, workspace: Workspace) -> jobs.Source:
        """The source as a worker's job has it."""
        if self.directory:
            return self.directory
        mount = workspace.view(self.tree)
        assert mount is not None, "the root of a tree is always there"
        return mount


class Sources:
    """Digests of files in one build. Those in finished layers are remembered for all, those in directories for this."""

    def __init__(self, workspace: Workspace, cache: BuildCache) -> None:
        self._workspace = workspace
        self._cache = cache
        self._of_directories: dict[str, str] = {}

    async def digest(
        self,
        origin: Origin,
        patterns: Sequence[str],
        excluded: Patterns = (),
        *,
        parents: bool = False,
        follow: bool = True,
    ) -> str:
        """A digest of the contents of what the patterns stand for, and in a tree of who owns them.

        ``follow``: a source that is a link means what it leads to. Raises NotFound for a source that is not there.
        """
        layer = origin.tree.known if origin.is_tree else ""
        place = json.dumps([_VERSION, layer or origin.directory, list(patterns), list(excluded), parents, follow])
        found = self._cache.content_digest(place) if layer else self._of_directories.get(place)
        if found is not None:
            return found
        job = jobs.Digest(
            source=origin.source(self._workspace),
            patterns=tuple(patterns),
            ignored=tuple(origin.ignored),
            excluded=tuple(excluded),
            parents=parents,
            owners=origin.is_tree,
            follow=follow,
        )
        digest = str(await self._workspace.ask(job))
        if layer:
            self._cache.set_content_digest(place, digest)
        elif not origin.is_tree:
            self._of_directories[place] = digest
        return digest

    async def download(self, url: str, directory: str, checksum: str) -> Download:
        """A file behind an address, which is not fetched again when the server says that it is as it was."""
        got = await download(url, directory, checksum=checksum, known=self._cache.download(url))
        if got.path and got.etag:
            self._cache.note_download(url, Known(got.etag, got.digest, got.name))
        return got


async def import_files(workspace: Workspace, sources: Sources, origin: Origin, steps: Steps) -> tuple[Tree, str]:
    """The files of a directory as a tree, for a step to stand on, and what the cache knows it by."""
    inputs = step_inputs("import", content=await sources.digest(origin, ["."]), ignored=list(origin.ignored))

    async def work(tree: Tree) -> ActiveSnapshot:
        snapshot = workspace.begin(tree)
        job = jobs.CopyFiles(
            root=workspace.mounts(tree, snapshot),
            source=origin.source(workspace),
            patterns=(".",),
            ignored=tuple(origin.ignored),
            destination="/",
            chown="",
            chmod="",
            parents=False,
            excluded=(),
        )
        await client.run(job)
        return snapshot

    key = step_key("", inputs)
    done = await steps.carry_out(Plan(inputs, "import of a directory", work), Tree(), key)
    return done.tree, key


Files = ins.Copy | ins.Add

_WILD = re.compile(r"[*?\[\\]")  # what a name has to have escaped to stand for itself


class Group(msgspec.Struct, frozen=True):
    """Sources that come from one place."""

    origin: Origin
    patterns: list[str]
    unpack: bool = False
    url: str = ""
    download: Download | None = None


class Copies:
    """Plans the COPYs and ADDs of a build."""

    def __init__(self, workspace: Workspace, sources: Sources, epoch: int | None) -> None:
        self._workspace = workspace
        self._sources = sources
        self._epoch = epoch

    async def plan(self, walker: Walker, files: Files, origin_of: Callable[[str], Awaitable[Origin]]) -> Plan:
        """Raises EngineError: for a source that is not there, and whatever may happen on the network."""
        if len(files.sources) > 1 and not _is_directory(files.destination):
            raise DockerfileError(
                f"When using {files.keyword} with more than one source file, the destination must be a directory "
                "and end with a /",
                files.position,
            )
        stage = files.source_stage if isinstance(files, ins.Copy) else ""
        groups = await self._groups(files, await origin_of(stage))
        parents = isinstance(files, ins.Copy) and files.parents
        excluded = _excluded(files.exclude)
        destination = _destination(walker.working_directory, files.destination)
        contents = [
            [
                await self._sources.digest(group.origin, group.patterns, excluded, parents=parents)
                if group.download is None
                else [group.download.digest, group.download.name],
                group.unpack,
            ]
            for group in groups
        ]
        inputs = step_inputs(
            "copy",
            contents=contents,
            files=[(heredoc.name, heredoc.content) for heredoc in files.heredocs],
            destination=destination,
            chown=files.chown,
            chmod=files.chmod,
            link=files.link,
            parents=parents,
            epoch=self._epoch,
        )

        async def work(tree: Tree) -> ActiveSnapshot:
            return await self._copy(files, groups, excluded, destination, tree)

        return Plan(inputs, history.files(files), work, stands_alone=files.link)

    async def _groups(self, files: Files, origin: Origin) -> list[Group]:
        if isinstance(files, ins.Copy):
            paths = _paths(files)
            return [Group(origin, paths)] if paths else []
        local = [source for source in _paths(files) if not is_url(source) and not git.is_address(source)]
        groups = [Group(origin, local, unpack=files.unpack is not False)] if local else []
        if files.checksum and (local or len(files.sources) > 1):
            raise DockerfileError("checksum can't be specified for local or several sources", files.position)
        for source in _paths(files):
            if git.is_address(source):
                directory = self._workspace.directory("git")
                address = git.parse(source)
                await git.clone(address, directory, keep_git=files.keep_git_dir, commit=files.checksum)
                groups.append(Group(Origin(directory), [address.directory or "."]))
            elif is_url(source):
                directory = self._workspace.directory("download")
                got = await self._sources.download(source, directory, files.checksum)
                pattern = _WILD.sub(r"\\\g<0>", got.name)
                groups.append(Group(Origin(directory), [pattern], bool(files.unpack), source, got))
        return groups

    async def _copy(
        self, files: Files, groups: list[Group], excluded: Patterns, destination: str, tree: Tree
    ) -> ActiveSnapshot:
        for group in groups:
            if group.download is not None and not group.download.path:  # the step itself is not in the cache any more
                await download(group.url, group.origin.directory, checksum=group.download.digest)
        snapshot = self._workspace.begin(tree)
        # --link: the layer is made without a look at what is below it, so that it does not depend on that.
        below = Tree() if files.link else tree
        job = functools.partial(
            jobs.CopyFiles,
            excluded=tuple(excluded),
            destination=destination,
            chown=files.chown,
            chmod=files.chmod,
            parents=isinstance(files, ins.Copy) and files.parents,
        )
        for group in groups:
            part = job(
                root=self._workspace.mounts(below, snapshot),
                source=group.origin.source(self._workspace),
                patterns=tuple(group.patterns),
                ignored=tuple(group.origin.ignored),
                keep_owners=group.origin.is_tree,
                unpack=group.unpack,
            )
            await client.run(part)
        if files.heredocs:
            texts = tuple((heredoc.name, heredoc.content) for heredoc in files.heredocs)
            await client.run(job(root=self._workspace.mounts(below, snapshot), files=texts))
        return snapshot


def _paths(files: Files) -> list[str]:
    """The sources that are no here-documents."""
    return [source for source in files.sources if isinstance(source, str)]


def _is_directory(destination: str) -> bool:
    return destination.endswith("/") or destination.rpartition("/")[2] in (".", "..")


def _excluded(patterns: Sequence[str]) -> list[Rule]:
    try:
        return PatternMatcher.of(patterns).rules
    except InvalidPattern as error:
        raise DockerfileError(error.message) from None


def _destination(working_directory: str, destination: str) -> str:
    """Absolute; a slash at the end is kept, or comes for what can only be a directory."""
    path = destination if destination.startswith("/") else f"{working_directory.rstrip('/')}/{destination}"
    return f"{path.rstrip('/')}/" if _is_directory(destination) else path
