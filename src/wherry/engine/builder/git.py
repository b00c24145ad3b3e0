"""Git repositories, by the git program, where there is one: their addresses, and their files at one commit."""

import asyncio
import contextlib
import os
import re
import shutil
from urllib.parse import parse_qsl

import msgspec

from wherry.common.errors import EngineError, InvalidParameter, NotSupported
from wherry.common.ports import split_address

_ADDRESS = re.compile(r"(?:git://|git@|ssh://|(?:https?://)?github\.com/|https?://[^#?]+\.git(?:[#?]|$))")
_COMMIT = re.compile(r"[0-9a-f]{4,64}")
_REFS = {"ref": "{}", "tag": "refs/tags/{}", "branch": "refs/heads/{}"}
_OTHERS = ("subdir", "checksum", "commit", "keep-git-dir", "submodules")


class Address(msgspec.Struct, frozen=True):
    """``https://host/path.git#ref:directory``, or ``https://host/path.git?branch=name&subdir=directory``.

    ``commit`` is what the ref has to stand for, or its beginning.
    """

    url: str
    ref: str = ""
    directory: str = ""
    commit: str = ""
    keep_git: bool = False
    submodules: bool = True


def is_address(text: str) -> bool:
    return bool(_ADDRESS.match(text))


def parse(text: str) -> Address:
    """Raises InvalidParameter, also for what git must not be given."""
    rest, _, fragment = text.partition("#")
    url, _, query = rest.partition("?")
    ref, _, directory = fragment.partition(":")
    refs = [ref] if ref else []
    said: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in _REFS:
            refs.append(_REFS[key].format(value))
        elif key in _OTHERS:
            said[key] = value
        else:
            known = ", ".join((*_REFS, *_OTHERS))
            raise InvalidParameter(f'invalid git address: {text}: unexpected key "{key}": expected one of {known}')
    if len(refs) > 1:
        raise InvalidParameter(f"invalid git address: {text}: it names more than one ref, tag or branch")
    commit = said.get("checksum") or said.get("commit", "")
    ref = refs[0] if refs else commit
    if url.startswith("-") or ref.startswith("-"):
        raise InvalidParameter(f"invalid git address: {text}")
    return Address(
        f"https://{url}" if url.startswith("github.com/") else url,
        ref,
        said.get("subdir") or directory,
        commit,
        _boolean(said.get("keep-git-dir", "false")),
        _boolean(said.get("submodules", "true")),
    )


def _boolean(text: str) -> bool:
    if text.lower() not in ("", "1", "true", "0", "false"):
        raise InvalidParameter(f"invalid git address: {text}: expected true or false")
    return text.lower() in ("", "1", "true")


async def clone(address: Address, target: str, *, keep_git: bool | None = None, commit: str = "") -> None:
    """Checks out one commit with its submodules into the empty directory ``target``.

    Raises EngineError, and InvalidParameter when it is another one than ``commit``, its beginning.
    """
    if shutil.which("git") is None:
        raise NotSupported(f"{address.url}: the git program is not installed on the engine's machine")
    await _git(target, "init", "--quiet")
    await _git(target, "remote", "add", "origin", address.url)  # submodules may have an address relative to it
    fetched = await _fetch(target, address.ref)
    await _git(target, "-c", "advice.detachedHead=false", "checkout", "--quiet", fetched)
    found = (await _git(target, "rev-parse", "HEAD")).strip()
    for wanted in (commit, address.commit):
        if not found.startswith(wanted):
            raise InvalidParameter(f"expected checksum to match {wanted}, got {found}")
    if address.submodules and ".gitmodules" in os.listdir(target):
        await _shallow(target, "submodule", "--quiet", "update", "--init", "--recursive")
    if not (address.keep_git if keep_git is None else keep_git):
        await asyncio.to_thread(shutil.rmtree, f"{target}/.git")
    elif (plain := _without_password(address.url)) != address.url:
        await _git(target, "remote", "set-url", "origin", plain)


async def _fetch(directory: str, ref: str) -> str:
    """What there is to check out then."""
    try:
        await _shallow(directory, "fetch", "--quiet", "origin", ref or "HEAD")
        return "FETCH_HEAD"
    except EngineError:
        if not _COMMIT.fullmatch(ref):
            raise
        # Not every server gives out a commit by its name, and none by the beginning of it.
        with contextlib.suppress(EngineError):
            await _git(directory, "fetch", "--quiet", "--tags", "origin")
            await _git(directory, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
            return ref
        raise


async def _shallow(directory: str, *arguments: str) -> None:
    """Without what came before a commit; with it from a server that knows nothing of git, and just has the files."""
    try:
        await _git(directory, *arguments, "--depth=1")
    except EngineError as error:
        if "dumb http transport" not in error.message:
            raise
        await _git(directory, *arguments)


def _without_password(url: str) -> str:
    parts = split_address(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.password else url


async def _git(directory: str, *arguments: str) -> str:
    """What it printed."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        # No settings but the repository's own: some are commands, and those in its files are somebody else's.
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
    }
    process = await asyncio.create_subprocess_exec(
        *("git", "-C", directory, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        printed, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise EngineError(f"git {arguments[0]} failed: {errors.decode(errors='replace').strip()}")
    return printed.decode(errors="replace")
