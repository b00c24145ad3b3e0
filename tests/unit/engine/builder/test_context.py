"""A build's context: where the Dockerfile is, what is ignored, and that no link leads out."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.common.ignore import PatternMatcher
from wherry.engine.builder import context, git


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    found = tmp_path / "context"
    found.mkdir()
    (found / "Dockerfile").write_text("FROM app")
    return found


def test_the_dockerfile_in_the_directory(directory: Path) -> None:
    found = context.on_this_machine(str(directory), "", None, None)
    assert (found.dockerfile, found.name, found.ignored) == (b"FROM app", "Dockerfile", [])
    (directory / "Dockerfile").rename(directory / "dockerfile")
    assert context.on_this_machine(str(directory), "", None, None).name == "dockerfile"
    with pytest.raises(InvalidParameter, match="Cannot locate specified Dockerfile: Other"):
        context.on_this_machine(str(directory), "Other", None, None)
    (directory / "Other").mkdir()
    with pytest.raises(InvalidParameter, match="Cannot locate specified Dockerfile: Other"):
        context.on_this_machine(str(directory), "Other", None, None)


def test_a_dockerfile_from_elsewhere(directory: Path) -> None:
    found = context.on_this_machine(str(directory), "/far/Dockerfile", b"FROM x", b"secret\n")
    assert found.dockerfile == b"FROM x" and found.ignored == PatternMatcher.of(("secret",)).rules


def test_what_is_ignored_is_said_by_the_nearest_file(directory: Path) -> None:
    (directory / ".dockerignore").write_text("a\n")
    assert context.on_this_machine(str(directory), "", None, None).ignored == PatternMatcher.of(("a",)).rules
    (directory / "Dockerfile.dockerignore").write_text("b\n")
    assert context.on_this_machine(str(directory), "", None, None).ignored == PatternMatcher.of(("b",)).rules
    (directory / "Dockerfile.dockerignore").write_text("[\n")
    with pytest.raises(InvalidParameter, match=r"Dockerfile.dockerignore"):
        context.on_this_machine(str(directory), "", None, None)


def test_no_link_leads_out_of_a_context(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (directory / "up").symlink_to("../secret")
    (directory / "absolute").symlink_to(tmp_path / "secret")
    (directory / "inner").symlink_to("/Dockerfile")
    assert context.read_file(str(directory), "up") is None
    assert context.read_file(str(directory), "absolute") is None
    assert context.read_file(str(directory), "../secret") is None
    assert context.read_file(str(directory), "inner") == b"FROM app"
    assert context.resolve(str(directory), "up") is None
    place = context.resolve(str(directory), "inner")
    assert place is not None and (place.inner, place.is_directory) == ("Dockerfile", False)
    top = context.resolve(str(directory), "/")
    assert top is not None and (top.inner, top.is_directory) == ("", True)


def test_no_dockerfile_is_that_large(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_LARGEST", 4)
    with pytest.raises(InvalidParameter, match="Dockerfile is larger than"):
        context.read_file(str(directory), "Dockerfile")


# --- files by their URL


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/missing":
            raise web.HTTPNotFound
        return web.Response(body=b"content", headers={"Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT"})

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


DIGEST = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"


async def test_a_file_behind_a_url(server: str, tmp_path: Path) -> None:
    found = await context.download(f"{server}/a/the%20file?x=y", str(tmp_path), checksum=DIGEST)
    assert (found.name, found.digest, found.mtime) == ("the file", DIGEST, 1_700_000_000 * 10**9)
    assert Path(found.path).read_bytes() == b"content"  # noqa: ASYNC240
    assert Path(found.path).stat().st_mtime == 1_700_000_000  # noqa: ASYNC240
    assert (await context.download(server, str(tmp_path))).name == "download"
    assert b"".join([chunk async for chunk in context.stream_url(f"{server}/x")]) == b"content"


async def test_what_cannot_be_fetched(server: str, tmp_path: Path) -> None:
    for url, checksum, error, message in (
        (f"{server}/x", "md5:1", InvalidParameter, 'invalid checksum "md5:1"'),
        (f"{server}/x", "sha256:" + "0" * 64, InvalidParameter, f"digest mismatch {DIGEST}"),
        (f"{server}/missing", "", NotFound, "with status 404 Not Found"),
        (
            "http://127.0.0.1:1/x",
            "",
            EngineError,
            'x": dial tcp 127.0.0.1:1: connect: connection refused',
        ),
    ):
        with pytest.raises(error, match=message):
            await context.download(url, str(tmp_path), checksum=checksum)
        (tmp_path / "x").unlink(missing_ok=True)


# --- addresses of repositories


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://host/r.git", git.Address("https://host/r.git")),
        ("https://host/r.git#main:sub", git.Address("https://host/r.git", "main", "sub")),
        ("github.com/a/b#v1", git.Address("https://github.com/a/b", "v1")),
        ("git@host:a/b.git#:sub", git.Address("git@host:a/b.git", "", "sub")),
        (
            "https://host/r.git?branch=x&subdir=d&keep-git-dir=1&submodules=false",
            git.Address("https://host/r.git", "refs/heads/x", "d", keep_git=True, submodules=False),
        ),
        ("https://host/r.git?checksum=abcd", git.Address("https://host/r.git", "abcd", commit="abcd")),
    ],
)
def test_addresses(text: str, expected: git.Address) -> None:
    assert git.is_address(text) and git.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://host/r.git?colour=red", 'unexpected key "colour"'),
        ("https://host/r.git?branch=x&tag=y", "more than one ref"),
        ("https://host/r.git#--upload-pack=x", "invalid git address"),
        ("https://host/r.git?keep-git-dir=maybe", "expected true or false"),
    ],
)
def test_addresses_that_are_none(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        git.parse(text)


def test_what_is_no_address() -> None:
    assert not any(git.is_address(text) for text in ("https://host/file.tar", "./dir", "file.git", "host/path"))


def test_a_password_is_not_kept() -> None:
    assert git._without_password("https://me:secret@host/r.git") == "https://host/r.git"
    assert git._without_password("https://me@host/r.git") == "https://me@host/r.git"
