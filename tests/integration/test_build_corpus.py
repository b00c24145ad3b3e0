"""The Dockerfiles of the corpus that need only Debian and its packages, built for real.

What installs much takes minutes: WHERRY_TEST_CORPUS=all builds those, too.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

CORPUS = sorted((Path(__file__).parents[1] / "unit" / "dockerfile" / "corpus").glob("debian-*.Dockerfile"))
_SMALL = ("vim",)


def _is_small(path: Path) -> bool:
    return "apt-get install" not in path.read_text() or path.stem.removeprefix("debian-") in _SMALL


CHOSEN = [path for path in CORPUS if os.environ.get("WHERRY_TEST_CORPUS") == "all" or _is_small(path)]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@pytest.fixture
def built(wherry: Callable[..., CompletedProcess[str]], debian: str) -> Iterator[str]:
    wherry("tag", debian, "debian:bookworm", check=True)
    yield "corpus"
    wherry("rmi", "--force", "corpus")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", CHOSEN, ids=lambda path: path.stem)
def test_builds(path: Path, empty: Path, built: str, wherry: Callable[..., CompletedProcess[str]]) -> None:
    finished = wherry("build", "--progress", "plain", "-t", built, "-f", str(path), str(empty), timeout=900)
    unreachable = ("Temporary failure resolving", "Could not connect", "Unable to connect", "Failed to fetch")
    if finished.returncode and any(text in finished.stderr for text in unreachable):
        pytest.skip("Debian's packages cannot be fetched from here")
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert wherry("image", "inspect", built).returncode == 0
