"""The Dockerfiles of the corpus that need only Debian and its packages, built for real, and run.

Those that install much take minutes: WHERRY_TEST_CORPUS=all builds them, too. test_build_like_docker.py compares what
comes out with what Docker makes of the same.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.corpus import archive_answers, chosen, needs_archive

# What each image says when it is run, as it is or with a command.
SAYS: dict[str, tuple[list[str], str]] = {
    "arg-scopes": (["cat", "/platform"], "linux/"),
    "backtick-escape": ([], "two \\ three\n"),
    "c-hello": ([], "hello from a stage\n"),
    "c-make": ([], "42\n"),
    "capabilities": (["cat", "/capabilities"], "0100000200040000000000000000000000000000\n"),
    "cpp-cmake": ([], "greetings\n"),
    "cron-supervisor": (["supervisord", "--version"], "4."),
    "curl-slim": (["--version"], "curl "),
    "entrypoint-script": (["echo", "by the script"], "by the script\n"),
    "expansion": (["sh", "-c", "echo $MAJOR $REST $DASHED $DIR $LEGACY"], "1 2.3 1-2-3 /opt/app y\n"),
    "git-shell": (["--version"], "git version "),
    "go": ([], "app 1.0.0\n"),
    "heredocs": (["cat", "/out/shell", "/out/tabs"], "hello world\nindented\ntwice\n"),
    "java": ([], "java "),
    "legacy-forms": ([], "hello there\n"),
    "links-and-modes": (["stat", "-c", "%a %u", "/copy/a/b/two"], "755 12\n"),
    "locale": (["locale", "-a"], "C\nC.utf8\nen_US.utf8\n"),
    "mounts": (["cat", "/file"], "content\n"),
    "nginx": (["sh", "-c", "nginx -v 2>&1"], "nginx version: nginx/"),
    "node": ([], "built at version v"),
    "onbuild": (["cat", "/greeting"], "hi\n"),
    "parallel-stages": (["cat", "/base", "/left", "/right"], "base\nleft\nright\n"),
    "perl": ([], "ok\n"),
    "plain": (["cat", "/etc/debian_version"], "1"),
    "postgres-client": (["--version"], "psql "),
    "python-script": ([], '{"made": true} 45\n'),
    "python-venv": (["python3", "-c", "import service; print(service.__name__)"], "service\n"),
    "ruby": ([], "ruby "),
    "rust": ([], "rust\n"),
    "scratch-rootfs": (["ls", "/"], "bin\n"),
    "users": ([], "uid=1000(app) gid=1000(app) "),
    "vim": (["vim", "--version"], "VIM - Vi IMproved "),
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@pytest.fixture
def built(wherry: Callable[..., CompletedProcess[str]], debian: str) -> Iterator[str]:
    wherry("tag", debian, "debian:bookworm", check=True)
    yield "corpus"
    wherry("rmi", "--force", "corpus")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "path", chosen("vim", "scratch-rootfs", "c-hello", "python-script", "node"), ids=lambda path: path.stem
)
def test_builds_and_runs(
    path: Path, empty: Path, built: str, debian: str, wherry: Callable[..., CompletedProcess[str]]
) -> None:
    if needs_archive(path):
        sources = wherry("run", "--rm", "--network", "none", debian, "cat", "/etc/apt/sources.list", check=True).stdout
        if not archive_answers(sources):
            pytest.skip("Debian's packages cannot be fetched from here")
    wherry("build", "--progress", "plain", "-t", built, "-f", str(path), str(empty), timeout=900, check=True)
    command, said = SAYS.get(path.stem.removeprefix("debian-"), (["true"], ""))
    assert wherry("run", "--rm", built, *command, check=True).stdout.startswith(said)
