"""The same Dockerfiles built by a real Docker and by wherry, and compared: configuration, history, and file by file.

A dockerd is started for that, or WHERRY_TEST_DOCKER_HOST names one that runs; without either the tests are skipped.
What only a Docker from 23 on can build, or builds differently, is left out for an older one. WHERRY_TEST_CORPUS=all
compares the images that install much, too.
"""

import functools
import hashlib
import json
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.support.corpus import archive_answers, chosen, needs_archive
from tests.support.docker_engine import DockerEngine, NoDocker
from tests.support.engine import CACHE
from tests.support.image_facts import facts, restore_modes

CASES = sorted(path.parent for path in (Path(__file__).parent / "builds").glob("*/Dockerfile"))

# Here-documents, and other words of the language that came to Docker with version 23.
_OF_TODAY = re.compile(r"<<|--link|--start-interval|size=|\$\{\w+[%#/]")
# What a Docker before 23 did otherwise: it left directories behind that something had been mounted on, and COPY made
# files of devices and lost pipes.
_CHANGED = {"mounts", "run-empty-places", "special-files"}

# What holds the time at which it was written.
_TIMED = re.compile(
    r"var/log/|var/cache/ldconfig/aux-cache$|etc/ssl/certs/java/cacerts$|app\.jar$|var/lib/apt/lists/|.*\.pyc$"
)


@pytest.fixture(scope="module")
def reference() -> Iterator[DockerEngine]:
    try:
        docker = DockerEngine()
    except NoDocker as reason:
        pytest.skip(str(reason))
    try:
        docker("load", "--quiet", "--input", str(CACHE / "busybox.image.tar"))
        yield docker
    finally:
        docker("rmi", "--force", "like-docker", check=False)
        docker.stop()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@pytest.fixture
def same(
    reference: DockerEngine, wherry: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> Iterator[Callable[..., None]]:
    """Builds with both, and compares: ``same(dockerfile, context, base, *arguments)``."""

    def build_and_compare(dockerfile: Path, context: Path, base: Path, *arguments: str) -> None:
        if reference.version < 23 and (_OF_TODAY.search(dockerfile.read_text()) or dockerfile.parent.name in _CHANGED):
            pytest.skip("this Docker is too old for it")
        # What "# syntax=" names would be pulled; Docker's own frontend does.
        plain = tmp_path / "Dockerfile"
        if (text := dockerfile.read_text()).startswith("# syntax="):
            plain.write_text(text.partition("\n")[2])
        for run, file in ((reference, plain if plain.exists() else dockerfile), (wherry, dockerfile)):
            build = ("build", *arguments, "--tag", "like-docker", "--file", str(file), str(context))
            run(*build, timeout=900, check=True)
        reference("save", "--output", str(tmp_path / "theirs.tar"), "like-docker")
        wherry("save", "--output", str(tmp_path / "ours.tar"), "like-docker", check=True)
        theirs, ours = facts(tmp_path / "theirs.tar", base), facts(tmp_path / "ours.tar", base)
        for each in (theirs, ours):
            each["files"] = _without_times(each["files"])
            if reference.version < 23:
                del each["history"]  # it says some things in other words
        assert _differences(ours.pop("files"), theirs.pop("files")) == {}
        assert ours == theirs

    yield build_and_compare
    wherry("rmi", "--force", "like-docker")
    for archive in tmp_path.glob("*.tar"):
        archive.unlink()


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """The files that are not the same, ours and theirs."""
    names = sorted({*ours, *theirs})
    return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}


def _without_times(files: dict[str, Any]) -> dict[str, Any]:
    """All but the content of files that hold a time."""
    return {name: [*entry[:4], *entry[5:]] if entry and _TIMED.match(name) else entry for name, entry in files.items()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_instruction(case: Path, same: Callable[..., None], busybox: str) -> None:
    said = case / "arguments.json"
    restore_modes(case / "context")
    same(
        case / "Dockerfile",
        case / "context",
        CACHE / f"{busybox.partition(':')[0]}.image.tar",
        "--network=none",
        *(json.loads(said.read_text()) if said.exists() else []),
    )


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.timeout(300)
def test_add_from_urls(same: Callable[..., None], reference: DockerEngine, tmp_path: Path, busybox: str) -> None:
    served, context = tmp_path / "served", tmp_path / "context"
    served.mkdir()
    context.mkdir()
    (served / "file").write_text("from a server")
    (served / "file").chmod(0o755)
    with tarfile.open(served / "packed.tar.gz", "w:gz") as tar:
        tar.add(served / "file", "inside")
    dockerfile = context / "Dockerfile"
    handler = functools.partial(_Quiet, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            dockerfile.write_text(
                f"FROM busybox\nADD {url}/file /named\nADD {url}/file {url}/packed.tar.gz /below/\n"
                f"ADD --chown=4:5 {url}/file /new/directory/\nWORKDIR /work\nADD {url}/packed.tar.gz ./\n"
            )
            if reference.version >= 23:
                digest = hashlib.sha256(b"from a server").hexdigest()
                with dockerfile.open("a") as file:
                    file.write(f"ADD --chmod=751 --checksum=sha256:{digest} {url}/file /checked\n")
            same(dockerfile, context, CACHE / "busybox.image.tar", "--network=none")
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", chosen(), ids=lambda path: path.stem)
def test_the_corpus(
    path: Path,
    same: Callable[..., None],
    empty: Path,
    reference: DockerEngine,
    debian: str,
    wherry: Callable[..., CompletedProcess[str]],
) -> None:
    base = CACHE / f"{debian.replace(':', '-')}.image.tar"
    if not reference("images", "--quiet", debian).stdout:
        reference("load", "--quiet", "--input", str(base))
    for run in (reference, wherry):
        run("tag", debian, "debian:bookworm", check=True)
    if needs_archive(path):
        sources = wherry("run", "--rm", "--network", "none", debian, "cat", "/etc/apt/sources.list", check=True).stdout
        if not archive_answers(sources):
            pytest.skip("Debian's packages cannot be fetched from here")
    same(path, empty, base, "--network=host")
