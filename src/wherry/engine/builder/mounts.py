"""What a RUN has mounted: files of the context, of stages and of images, caches, secrets, and agents' sockets."""

import asyncio
import contextlib
import hashlib
import os
import posixpath
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import msgspec

from wherry.common.errors import EngineError, InvalidParameter
from wherry.common.values import clean_path
from wherry.dockerfile.instructions import Mount as DockerfileMount
from wherry.dockerfile.instructions import Mount as Wanted
from wherry.dockerfile.lexer import DockerfileError
from wherry.engine.builder import context
from wherry.engine.builder.copy import Origin
from wherry.engine.builder.request import BuildRequest
from wherry.linux.files import make_directories
from wherry.linux.mounts import Mount
from wherry.storage.build_cache import BuildCache
from wherry.storage.build_snapshots import ActiveSnapshot, Tree, Workspace
from wherry.storage.worker.files import Files

# The directories of ``RUN --mount=type=cache``: which one a step gets, and who waits for whom.


class CacheMounts:
    """The cache mounts of all builds of an engine."""

    def __init__(self, cache: BuildCache) -> None:
        self._cache = cache
        self._locks: dict[str, asyncio.Lock] = {}
        self._making: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def turn(self, wanted: Iterable[tuple[DockerfileMount, str]]) -> AsyncIterator[None]:
        """Waits until those mounts (with their targets) that are ``locked``, one step's at a time, are this one's.

        Everybody takes them in one order: no two steps can wait for each other.
        """
        names = sorted({_name(mount, target) for mount, target in wanted if mount.sharing == "locked"})
        async with contextlib.AsyncExitStack() as stack:
            for name in names:
                await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            yield

    @contextlib.asynccontextmanager
    async def use(
        self, mount: DockerfileMount, target: str, fill: Callable[[str], Awaitable[None]]
    ) -> AsyncIterator[str]:
        """The directory on the host. ``fill`` is given a new one, before anybody else sees it."""
        name = _name(mount, target)
        if mount.sharing == "private":
            name = self._free(name)
        self._users[name] += 1
        try:
            async with self._making.setdefault(name, asyncio.Lock()):
                path, is_new = self._cache.mount(name, f"cache mount {mount.cache_id or target}")
                if is_new:
                    await self._make(name, path, mount, fill)
            yield path
        finally:
            self._users[name] -= 1

    async def _make(self, name: str, path: str, mount: DockerfileMount, fill: Callable[[str], Awaitable[None]]) -> None:
        try:
            os.chown(path, mount.uid or 0, mount.gid or 0)
            os.chmod(path, 0o755 if mount.mode is None else mount.mode)
            await fill(path)
        except BaseException:
            self._cache.remove_mount(name)
            raise

    def is_used(self, name: str) -> bool:
        return self._users[name] > 0

    def _free(self, name: str) -> str:
        """One that nobody uses now."""
        number = 0
        found = name
        while self._users[found]:
            number += 1
            found = f"{name}-{number}"
        return found


def _name(mount: DockerfileMount, target: str) -> str:
    return hashlib.sha256((mount.cache_id or target).encode()).hexdigest()[:32]


OriginOf = Callable[[str], Awaitable[Origin]]
_PIECE = 1 << 16
_AGENT = "/run/buildkit/ssh_agent"  # where programs that know Docker look for a socket; its number follows

# Where every container has something mounted. The directories stay in the image, as they do when Docker builds it.
USUAL_PLACES = (
    ("/proc", "kept"),
    ("/sys", "kept"),
    ("/dev", "kept"),
    ("/etc/hostname", "file"),
    ("/etc/hosts", "file"),
    ("/etc/resolv.conf", "file"),
)


class Mounted(msgspec.Struct):
    """``places`` are the mounts' targets and kinds, to be there; ``environment`` is what comes with the mounts."""

    mounts: list[Mount] = []
    places: list[tuple[str, str]] = []
    environment: list[str] = []

    def add(self, mount: Mount, kind: str = "dir") -> None:
        self.mounts.append(mount)
        self.places.append((mount.target, kind))


def target_of(wanted: Wanted, working_directory: str) -> str:
    return clean_path(f"/{working_directory}/{wanted.target}" if wanted.target[:1] != "/" else wanted.target)


class RunMounts:
    """Makes the mounts of RUNs. ``origin_of`` leads from a ``from=`` to its files."""

    def __init__(
        self, workspace: Workspace, caches: CacheMounts, request: BuildRequest, files: Files, origin_of: OriginOf
    ) -> None:
        self._workspace = workspace
        self._caches = caches
        self._request = request
        self._files = files
        self._origin_of = origin_of

    @contextlib.asynccontextmanager
    async def prepare(
        self, wanted: tuple[Wanted, ...], working_directory: str, directory: str
    ) -> AsyncIterator[Mounted]:
        """Everything that has to be there while the RUN runs. ``directory`` is the container's own.

        Raises EngineError.
        """
        result = Mounted()
        agents = 0
        caches = [(each, target_of(each, working_directory)) for each in wanted if each.type == "cache"]
        async with self._caches.turn(caches), contextlib.AsyncExitStack() as stack:
            for number, each in enumerate(wanted):
                target = target_of(each, working_directory)
                match each.type:
                    case "bind":
                        await self._bind(result, each, target)
                    case "cache":
                        await self._cache(result, each, target, stack)
                    case "tmpfs":
                        options = ("nosuid", "nodev", *([f"size={each.size}"] if each.size else []))
                        result.add(Mount("tmpfs", "tmpfs", target, options))
                    case "secret":
                        await self._secret(result, each, working_directory, f"{directory}/secret-{number}")
                    case "ssh":
                        place = target_of(each, working_directory) if each.target else f"{_AGENT}.{agents}"
                        await self._ssh(result, each, place, f"{directory}/agent-{number}", stack)
                        agents += 1
            yield result

    async def volumes(self, paths: Iterable[str], tree: Tree, snapshot: ActiveSnapshot) -> list[Mount]:
        """What the classic builder mounts on VOLUMEs: copies of the files there, which go with the container."""
        view = self._workspace.view(tree)
        assert view is not None, "the root of a tree is always there"
        made: list[Mount] = []
        for target in sorted({clean_path(f"/{path}") for path in paths}):
            directory = self._workspace.directory("volume")
            await self._files.copy_out((view,), target, directory)
            above = next((each for each in reversed(made) if target.startswith(f"{each.target}/")), None)
            if above is None:
                await self._workspace.make_directory(tree, snapshot, target)
            else:
                _make_place(above.source, target.removeprefix(above.target))
            made.append(Mount("bind", directory, target, ("bind", "rw", "rprivate")))
        return made

    async def _bind(self, result: Mounted, wanted: Wanted, target: str) -> None:
        origin = await self._origin_of(wanted.source_stage)
        mount = await self._mount_of(origin, wanted.source or "/", target)
        if mount is None:
            raise InvalidParameter(f'"{wanted.source}": not found')
        result.add(mount if wanted.read_only else self._workspace.scratch(mount), mount.create)

    async def _mount_of(self, origin: Origin, path: str, target: str) -> Mount | None:
        if origin.is_tree:
            return self._workspace.view(origin.tree, path, target)
        place = context.resolve(origin.directory, path)
        if place is None:
            return None
        if place.is_directory:
            return await self._workspace.hide_ignored(place.path, place.inner, origin.ignored, target)
        return Mount("bind", place.path, target, ("bind", "ro", "rprivate"), create="file")

    async def _cache(self, result: Mounted, wanted: Wanted, target: str, stack: contextlib.AsyncExitStack) -> None:
        if not wanted.target:
            raise DockerfileError("cache mounts must have a target")

        async def fill(path: str) -> None:
            if wanted.source_stage:
                origin, source = await self._origin_of(wanted.source_stage), wanted.source or "/"
                view = self._workspace.view(origin.tree)
                if view is None or not self._workspace.is_directory(origin.tree, clean_path(f"/{source}")):
                    raise InvalidParameter(f'"{source}": not found: expected a directory')
                await self._files.copy_out((view,), source, path)

        path = await stack.enter_async_context(self._caches.use(wanted, target, fill))
        access = "ro" if wanted.read_only else "rw"
        result.add(Mount("bind", path, target, ("bind", access, "rprivate")))

    async def _secret(self, result: Mounted, wanted: Wanted, working_directory: str, file: str) -> None:
        secret_id = wanted.cache_id or wanted.source or posixpath.basename(wanted.target)
        content = self._request.given.secrets.get(secret_id)
        if content is None and self._request.client is not None:
            content = await self._request.client.secret(secret_id)
        if content is None:
            if wanted.required:
                raise InvalidParameter(f"secret {secret_id}: not found: give it with --secret id={secret_id}")
            return
        if wanted.environment is not None:
            result.environment.append(f"{wanted.environment or secret_id}={content.decode('utf-8', 'surrogateescape')}")
            if not wanted.target:
                return
        target = target_of(wanted, working_directory) if wanted.target else f"/run/secrets/{secret_id}"
        _write_secret(file, content, wanted)
        result.add(Mount("bind", file, target, ("bind", "ro", "rprivate"), create="file"), "file")

    async def _ssh(
        self, result: Mounted, wanted: Wanted, target: str, path: str, stack: contextlib.AsyncExitStack
    ) -> None:
        agent_id = wanted.cache_id or "default"
        agent = self._request.given.ssh.get(agent_id)
        if agent is None and self._request.client is not None:
            with contextlib.suppress(EngineError):
                lent = self._request.client.agent(agent_id, posixpath.dirname(path))
                agent = await stack.enter_async_context(lent)
        if agent is None:
            if wanted.required:
                raise InvalidParameter(f"ssh agent {agent_id}: not found: give it with --ssh {agent_id}")
            return
        await stack.enter_async_context(_agent_socket(agent, path, wanted))
        result.add(Mount("bind", path, target, ("bind", "rw", "rprivate"), create="file"), "file")
        if not any(entry.startswith("SSH_AUTH_SOCK=") for entry in result.environment):
            result.environment.append(f"SSH_AUTH_SOCK={target}")


def _make_place(directory: str, path: str) -> None:
    """A directory for a mount in another one of this machine, which no link in it leads out of."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(make_directories(root, path))
    finally:
        os.close(root)


def _write_secret(path: str, content: bytes, wanted: Wanted) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(content)
        os.fchown(fd, wanted.uid or 0, wanted.gid or 0)
        os.fchmod(fd, 0o400 if wanted.mode is None else wanted.mode)


@contextlib.asynccontextmanager
async def _agent_socket(agent: str, path: str, wanted: Wanted) -> AsyncIterator[None]:
    """A socket of the step's own that leads to an agent: its owner and its mode are the step's to choose."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            agent_reader, agent_writer = await asyncio.open_unix_connection(agent)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, agent_writer), _pump(agent_reader, writer))

    # A unix socket's path is at most 107 bytes: by the directory's descriptor it is always short enough.
    directory = os.open(posixpath.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        server = await asyncio.start_unix_server(serve, f"/proc/self/fd/{directory}/{posixpath.basename(path)}")
    finally:
        os.close(directory)
    os.chown(path, wanted.uid or 0, wanted.gid or 0)
    os.chmod(path, 0o600 if wanted.mode is None else wanted.mode)
    try:
        yield
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()
