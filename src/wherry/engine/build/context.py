"""Where a build's own files are, and its Dockerfile: however they came, they are a directory in the end."""

import asyncio
import os
import stat
from collections.abc import AsyncIterable

import msgspec

from wherry.dockerfile.errors import DockerfileError
from wherry.dockerfile.ignore import IgnoreRules, Rule
from wherry.engine.build import git, remote
from wherry.linux import paths
from wherry.linux.errors import SyscallError
from wherry.model.errors import InvalidParameter
from wherry.storage import jobs
from wherry.storage.drafts import Workspace

IGNORE_FILE = ".dockerignore"
_DEFAULT = "Dockerfile"
_LARGEST = 16 << 20  # bytes of a Dockerfile or a .dockerignore


class Context(msgspec.Struct, frozen=True):
    """``directory`` holds the files; ``ignored`` says which of them are as if not there, see ``IgnoreRules``.

    ``dockerfile`` is the text, ``name`` what errors call it.
    """

    directory: str
    ignored: list[Rule]
    dockerfile: bytes
    name: str


async def receive(workspace: Workspace, stream: AsyncIterable[bytes], dockerfile: str, outside: str = "") -> Context:
    """A tar from a client, or a Dockerfile alone. Raises InvalidParameter.

    ``outside``: the Dockerfile is no part of the context, and this is its name.
    """
    directory = workspace.directory("context")
    answer = await jobs.run({"kind": "receive context", "directory": directory}, input=stream)
    found = _open(directory, dockerfile if answer["tar"] else _DEFAULT, filtered=True)
    if not outside:
        return found
    added = IgnoreRules((dockerfile, f"{dockerfile}{IGNORE_FILE}")).expressions()
    return msgspec.structs.replace(found, name=outside, ignored=[*found.ignored, *added])


async def fetch(workspace: Workspace, address: str, dockerfile: str, *, keep_git: bool | None = None) -> Context:
    """A git repository, a tar behind a URL, or a Dockerfile behind one. Raises EngineError, InvalidParameter."""
    if git.is_address(address):
        parsed = git.parse(address)
        clone = workspace.directory("git")
        await git.clone(parsed, clone, keep_git=keep_git)
        return _open(_inside(clone, parsed.directory), dockerfile, filtered=True)
    if not remote.is_url(address):
        raise InvalidParameter(f"remote {address}: expected a URL or the address of a git repository")
    got = await remote.download(address, workspace.directory("download"))
    return await receive(workspace, _read(got.path), dockerfile)


def on_this_machine(directory: str, dockerfile: str, text: bytes | None, ignore: bytes | None) -> Context:
    """A directory that is read where it lies. ``text`` is a Dockerfile from elsewhere, ``ignore`` what is beside it."""
    return _open(directory, dockerfile, filtered=False, text=text, ignore=ignore)


def read_file(directory: str, path: str) -> bytes | None:
    """A small file of a directory, which no link leads out of; None when it is not there."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = paths.open_in(root, "/" + path, os.O_RDONLY | os.O_NONBLOCK)
    except SyscallError:
        return None
    finally:
        os.close(root)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    with open(fd, "rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise InvalidParameter(f"{path} is larger than {_LARGEST >> 20} MiB")
    return data


def _open(
    directory: str, dockerfile: str, *, filtered: bool, text: bytes | None = None, ignore: bytes | None = None
) -> Context:
    """``filtered``: the client has left out what .dockerignore names, but for the files that the engine needs."""
    name = dockerfile or _DEFAULT
    if text is None:
        text = read_file(directory, name)
        if text is None and not dockerfile:
            name = name.lower()
            text = read_file(directory, name)
        if text is None:
            raise InvalidParameter(f"Cannot locate specified Dockerfile: {dockerfile or _DEFAULT}")
    rules = _ignore_rules(directory, name) if ignore is None else _parse_rules(ignore, f"{name}{IGNORE_FILE}")
    if not filtered:
        return Context(directory, rules.expressions(), text, name)
    own = [own for own in (name, IGNORE_FILE) if rules.matches(own)]
    return Context(directory, IgnoreRules(own).expressions() if own else [], text, name)


def _ignore_rules(directory: str, dockerfile: str) -> IgnoreRules:
    for name in (f"{dockerfile}{IGNORE_FILE}", IGNORE_FILE):
        text = read_file(directory, name)
        if text is not None:
            return _parse_rules(text, name)
    return IgnoreRules(())


def _parse_rules(text: bytes, name: str) -> IgnoreRules:
    try:
        return IgnoreRules.parse(text, name)
    except DockerfileError as error:
        raise InvalidParameter(error.message) from None


def _inside(directory: str, path: str) -> str:
    """A directory below another one, with links resolved inside of that. Raises InvalidParameter."""
    place = resolve(directory, path)
    if place is None:
        raise InvalidParameter(f"the repository has no directory {path}")
    return place.path


class Place(msgspec.Struct, frozen=True):
    """Where something of a directory really lies, on this machine and in the directory."""

    path: str
    inner: str
    is_directory: bool


def resolve(directory: str, path: str) -> Place | None:
    """The place of ``path``, its links resolved inside of the directory; None when it is not there."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = paths.open_in(root, "/" + path)
        try:
            found, above = (os.readlink(f"/proc/self/fd/{each}") for each in (fd, root))
            inner = os.path.relpath(found, above)
            return Place(found, "" if inner == "." else inner, stat.S_ISDIR(os.fstat(fd).st_mode))
        finally:
            os.close(fd)
    except SyscallError:
        return None
    finally:
        os.close(root)


async def _read(path: str) -> AsyncIterable[bytes]:
    file = await asyncio.to_thread(open, path, "rb")
    with file:
        while data := file.read(1 << 18):
            yield data
