"""``build``: where its files and its Dockerfile may come from, and which of them it sees."""

import base64
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.builds import Builder, file_server, git_server
from tests.support.engine import WHERRY, Engine

Finished = subprocess.CompletedProcess[str]
Build = Callable[..., Finished]


def test_ways_to_give_the_context(build: Builder, engine: Engine, tmp_path: Path) -> None:
    build.write({"f": "content"})
    (tmp_path / "Elsewhere").write_text("FROM busybox\nCOPY f /from-elsewhere\n")
    text = "FROM busybox\nCOPY f /from-stdin\n"
    engine.wherry("build", "-t", "built", "-f", str(tmp_path / "Elsewhere"), str(build.context), check=True)
    assert "from-elsewhere" in build.files()
    engine.wherry("build", "-t", "built", "-f", "-", str(build.context), input=text, check=True)
    assert "from-stdin" in build.files()
    large = "FROM busybox\n" + "# a comment\n" * 1000 + "RUN echo > /large\n"
    engine.wherry("build", "-t", "built", "-f", "-", str(build.context), input=large, check=True)
    assert "large" in build.files()
    engine.wherry("build", "-t", "built", "-", input="FROM busybox\nRUN echo > /alone\n", check=True)
    assert "alone" in build.files()
    packed = tmp_path / "context.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(tmp_path / "Elsewhere", "Dockerfile")
        tar.add(build.context / "f", "f")
    with packed.open("rb") as file:
        subprocess.run([WHERRY, "build", "-t", "built", "-"], stdin=file, check=True, capture_output=True,
                       env={**os.environ, "WHERRY_HOST": engine.host})  # fmt: skip
    assert "from-elsewhere" in build.files()


@pytest.mark.parametrize("named", ["folder", "nowhere"])
def test_a_dockerfile_that_is_none(build: Builder, engine: Engine, named: str) -> None:
    build.write({"folder/x": ""})
    finished = engine.wherry("build", "-f", named, str(build.context), cwd=build.context)
    assert finished.returncode == 1 and finished.stderr.count("\n") == 1 and "Errno" not in finished.stderr


def test_ignored_files(build: Builder, docker: Build) -> None:
    files = {".dockerignore": "*.log\nbuild\n!build/keep\n", "a.log": "", "a.txt": "", "build/x": "", "build/keep": ""}
    build("FROM busybox\nCOPY . /all\n", files)
    ours = {name for name in build.files() if name.startswith("all/")}
    docker("build", "-t", "built", str(build.context), env={"DOCKER_BUILDKIT": "0"}, check=True)
    theirs = {name for name in build.files() if name.startswith("all/")}
    assert ours == theirs == {"all/Dockerfile", "all/.dockerignore", "all/a.txt", "all/build", "all/build/keep"}


def test_a_context_that_is_sent_is_the_same(build: Builder, engine: Engine, tmp_path: Path) -> None:
    """As one that is read where it lies: the CLI sends it when the socket is not its own user's."""
    build.write({".dockerignore": "*.log\n", "a.log": "", "d/one": "1"})
    (build.context / "two").hardlink_to(build.context / "d" / "one")
    (build.context / "link").symlink_to("nowhere")
    os.mkfifo(build.context / "pipe")
    outside = tmp_path / "Outside"
    outside.write_text("FROM busybox\nCOPY . /all\nRUN false\n")
    flags = ("--no-cache", "--network", "none", "-f", str(outside), str(build.context))
    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    ids = set()
    for owner in (1, os.geteuid()):
        os.chown(engine.socket, owner, -1)
        failed = engine.wherry("build", *flags)
        assert failed.returncode == 1 and "\nOutside:3:\n  3 | RUN false\n" in failed.stderr
        outside.write_text(outside.read_text().replace("RUN false\n", ""))
        ids.add(engine.wherry("build", "-q", "-t", "built", *flags, env=epoch, check=True).stdout)
        outside.write_text(f"{outside.read_text()}RUN false\n")
    assert len(ids) == 1
    assert {name for name in build.files() if name.startswith("all/")} == {
        "all/.dockerignore", "all/d", "all/d/one", "all/two", "all/link", "all/pipe",
    }  # fmt: skip


def test_what_is_ignored_cannot_be_named_either(build: Builder) -> None:
    """Though a later rule takes something else back, and by whatever link it is asked for."""
    build.write({".dockerignore": "secret\ndir/*.key\n!dir/kept\n", "secret": "", "dir/a.key": "", "dir/kept": ""})
    (build.context / "link").symlink_to("dir")
    for source in ("secret", "dir/a.key", "link/a.key"):
        refused = build(f"FROM busybox\nCOPY {source} /x\n", check=False)
        assert refused.returncode == 1 and f'"/{source}": not found: .dockerignore leaves it out' in refused.stderr
    build("FROM scratch\nCOPY link/ s* /all/\n")
    assert set(build.files()) == {"all", "all/kept"}


def test_an_ignore_file_beside_a_named_dockerfile(build: Builder) -> None:
    build.write({".dockerignore": "a\n", "Other": "FROM busybox\nCOPY . /all\n", "Other.dockerignore": "b\n"})
    build.write({"a": "", "b": ""})
    build("FROM scratch", None, "--file", str(build.context / "Other"))
    names = set(build.files())
    assert "all/a" in names and "all/b" not in names


def test_links_do_not_lead_out_of_the_context(build: Builder) -> None:
    (build.context / "out").symlink_to("/etc/hostname")
    (build.context / "up").symlink_to("../../../../../../etc")
    finished = build("FROM busybox\nCOPY out /stolen\n", check=False)
    assert finished.returncode == 1 and "not found" in finished.stderr
    finished = build("FROM busybox\nCOPY up/hostname /stolen\n", check=False)
    assert finished.returncode == 1
    finished = build("FROM busybox\nRUN --mount=source=out,target=/o cat /o\n", check=False)
    assert finished.returncode == 1


def test_links_do_not_lead_out_of_the_image(build: Builder, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    build(f"FROM busybox\nRUN mkdir -p {victim.parent} && ln -s / /root-link && ln -s {victim} /link\nCOPY a /link/\n"
          f"COPY a /root-link{victim}/b\n", {"a": ""})  # fmt: skip
    assert list(victim.iterdir()) == []


def test_who_may_name_a_directory(engine: Engine) -> None:
    headers = {"X-Wherry-Context": base64.b64encode(b"/etc").decode(), "X-Wherry-Context-Identity": "0:0"}
    answer = engine.request("POST", "/build", headers=headers)
    assert answer.status == 400 and "not on the engine's machine" in answer.body["message"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    with file_server(tmp_path / "served") as address:
        yield address


def test_contexts_behind_urls(build: Builder, server: str, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "served" / "Dockerfile").write_text("FROM busybox\nRUN echo x > /x\n")
    with tarfile.open(tmp_path / "served" / "context.tar", "w") as tar:
        tar.add(tmp_path / "served" / "Dockerfile", "Dockerfile")
    for name in ("Dockerfile", "context.tar"):
        engine.wherry("build", "--network", "none", "--tag", "built", f"{server}/{name}", check=True)
        assert "x" in build.files()


def test_git(build: Builder, engine: Engine, tmp_path: Path) -> None:
    """As a context, with a branch and a folder; and in ADD, with a checksum."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    with git_server(tmp_path / "git", {"Dockerfile": "FROM busybox\nCOPY . /all\n", "below/Dockerfile": "FROM busybox\n"
                                       "COPY . /part\n", "below/file": "x"}) as (url, commit):  # fmt: skip
        for fragment, expected in (
            ("", "all/below/file"), ("#other", "all/below/file"), ("#:below", "part/file"),
            (f"#{commit[:8]}", "all/below/file"), (f"#{commit}:below", "part/file"), ("?subdir=below", "part/file"),
            (f"?branch=other&subdir=below&checksum={commit[:9]}", "part/file"), (f"?commit={commit}", "all/below/file"),
        ):  # fmt: skip
            engine.wherry("build", "-t", "built", url + fragment, check=True)
            names = set(build.files())
            assert expected in names and "all/.git" not in names
        repository = tmp_path / "git" / "repository"
        subprocess.run(["git", "-C", str(repository), "update-server-info"], check=True)
        with file_server(repository) as plain:  # which knows nothing of git
            for fragment in ("#other", f"#{commit}"):
                engine.wherry("build", "--no-cache", "-t", "built", f"{plain}/.git{fragment}", check=True)
                assert "all/below/file" in build.files()
        engine.wherry("build", "-t", "built", "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", url, check=True)
        assert "all/.git" in build.files()
        build(f"FROM busybox\nADD {url}#other:below /part/\nADD --keep-git-dir=true {url} /whole/\n"
              f"ADD --checksum={commit} {url}#other /checked/\nADD {url}?keep-git-dir=1 /kept/\n")  # fmt: skip
        assert {"part/file", "whole/.git", "kept/.git", "checked/Dockerfile"} <= set(build.files())
        refused = build(f"FROM busybox\nADD --checksum={'0' * 40} {url} /x/\n", check=False)
        assert refused.returncode == 1 and f"expected checksum to match {'0' * 40}" in refused.stderr
        for query, said in (
            ("?branhc=other", 'unexpected key "branhc"'), ("?branch=other#main", "more than one"),
            ("#abcdef0", "couldn't find remote ref abcdef0"), (f"?ref=other&commit={'0' * 40}", "expected checksum"),
            ("#--upload-pack=x", "invalid git address"), ("?submodules=perhaps", "expected true or false"),
        ):  # fmt: skip
            refused = engine.wherry("build", url + query)
            assert refused.returncode == 1 and said in refused.stderr
        refused = engine.wherry("build", f"{url}#nowhere")
        assert refused.returncode == 1 and "couldn't find remote ref nowhere" in refused.stderr


def test_a_repository_cannot_configure_the_engines_git(build: Builder, engine: Engine, tmp_path: Path) -> None:
    """Its files lie where git works, and some of git's settings are commands that it runs."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    marker, repository = tmp_path / "marker", tmp_path / "git" / "repository"
    with git_server(tmp_path / "git", {"Dockerfile": "FROM scratch\n", "evil": f"#!/bin/sh\ntouch {marker}\n"}) as (
        url,
        commit,
    ):
        (repository / "evil").chmod(0o755)
        (repository / ".gitconfig").write_text(f"[core]\n\tgitProxy = {repository}/evil\n")
        (repository / ".gitmodules").write_text('[submodule "sub"]\n\tpath = sub\n\turl = ../repository\n')
        git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.com"]
        for words in (["add", "."], ["update-index", "--add", "--cacheinfo", f"160000,{commit},sub"],
                      ["commit", "-q", "-m", "y"]):  # fmt: skip
            subprocess.run([*git, *words], check=True)
        (repository / "Dockerfile").write_text("FROM scratch\nCOPY sub /sub\n")
        subprocess.run([*git, "commit", "-q", "-m", "z", "Dockerfile"], check=True)
        engine.wherry("build", "-t", "built", url, check=True)
        assert not marker.exists() and "sub/evil" in build.files()
        engine.wherry("rmi", "built", check=True)
