"""The Dockerfiles of the corpus that need only Debian: which to build, and whether their packages can be had."""

import functools
import os
import re
import urllib.parse
import urllib.request
from pathlib import Path

CORPUS = sorted((Path(__file__).parents[1] / "unit" / "dockerfile" / "corpus").glob("debian-*.Dockerfile"))

_ALL = os.environ.get("WHERRY_TEST_CORPUS") == "all"
_SECONDS = 10


def needs_archive(path: Path) -> bool:
    return "apt-get" in path.read_text()


def chosen(*small: str) -> list[Path]:
    """Those that install nothing, and ``small`` ones that do; with WHERRY_TEST_CORPUS=all every one."""
    return [path for path in CORPUS if _ALL or not needs_archive(path) or path.stem.removeprefix("debian-") in small]


@functools.cache
def archive_answers(sources: str) -> bool:
    """Whether the first archive of a sources.list can be reached from here, and from a container: loopback cannot."""
    found = re.search(r"^deb (?:\[.*?\] )?(\S+?)/? (\S+)", sources, re.MULTILINE)
    if found is None or urllib.parse.urlsplit(found[1]).hostname in ("localhost", "127.0.0.1", "::1"):
        return False
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # containers are told of no proxy
    try:
        with direct.open(f"{found[1]}/dists/{found[2]}/Release", timeout=_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
