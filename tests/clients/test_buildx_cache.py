"""The build cache that travels: to a registry or a directory, and from there to an engine that has nothing of it."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.registry import Registry

Run = Callable[..., subprocess.CompletedProcess[str]]

CONFIG = "application/vnd.buildkit.cacheconfig.v0"
DOCKERFILE = """\
FROM busybox AS early
RUN echo early >/early
FROM busybox
COPY --from=early /early /
RUN date +%N >/made
"""


@pytest.fixture
def context(tmp_path: Path, engine: Engine, busybox: str) -> Iterator[Path]:
    made = tmp_path / "context"
    made.mkdir()
    (made / "Dockerfile").write_text(DOCKERFILE)
    yield made
    engine.wherry("rmi", "--force", "built:x")


def build_elsewhere(buildx: Run, engine: Engine, context: Path, *arguments: str) -> str:
    """Builds once more after all that the engine knew of it is gone; the progress."""
    engine.wherry("rmi", "built:x", check=True)
    engine.wherry("builder", "prune", "--all", "--force", check=True)
    return buildx("build", "--progress", "plain", "-t", "built:x", *arguments, str(context), check=True).stderr


def made_at(engine: Engine) -> str:
    return engine.wherry("run", "--rm", "built:x", "cat", "/made", check=True).stdout


@pytest.mark.parametrize(("mode", "cached"), [("min", 2), ("max", 3)])
def test_a_registry(buildx: Run, context: Path, engine: Engine, registry: Registry, mode: str, cached: int) -> None:
    ref = f"{registry.host}/cache:{mode}"
    buildx("build", "-t", "built:x", "--cache-to", f"type=registry,ref={ref},mode={mode}", str(context), check=True)
    before = made_at(engine)
    assert registry.manifest("cache", mode)["config"]["mediaType"] == CONFIG
    shown = build_elsewhere(buildx, engine, context, "--cache-from", f"type=registry,ref={ref}")
    assert shown.count("CACHED") >= cached
    assert made_at(engine) == before


def test_an_index_in_a_registry(buildx: Run, context: Path, engine: Engine, registry: Registry) -> None:
    ref = f"{registry.host}/cache:index"
    to = f"type=registry,ref={ref},mode=max,image-manifest=false,compression=zstd"
    buildx("build", "-t", "built:x", "--cache-to", to, str(context), check=True)
    before = made_at(engine)
    assert registry.manifest("cache", "index")["manifests"][-1]["mediaType"] == CONFIG
    build_elsewhere(buildx, engine, context, "--cache-from", ref)
    assert made_at(engine) == before


def test_a_directory(buildx: Run, context: Path, engine: Engine, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    buildx("build", "-t", "built:x", "--cache-to", f"type=local,dest={place},mode=max", str(context), check=True)
    before = made_at(engine)
    assert json.loads((place / "index.json").read_text())["manifests"]
    build_elsewhere(buildx, engine, context, "--cache-from", f"type=local,src={place}")
    assert made_at(engine) == before


def test_inline_also_of_what_was_cached(buildx: Run, context: Path, engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/inline:1"
    buildx("build", "-t", "built:x", str(context), check=True)
    buildx("build", "-t", name, "--push", "--cache-to", "type=inline", str(context), check=True)
    before = made_at(engine)
    engine.wherry("rmi", name, check=True)
    build_elsewhere(buildx, engine, context, "--cache-from", name)
    assert made_at(engine) == before
    engine.wherry("rmi", "--force", name)


def test_a_cache_that_is_not_there(buildx: Run, context: Path, registry: Registry) -> None:
    ref = f"{registry.host}/cache:nosuch"
    shown = buildx(
        "build", "--progress", "plain", "--cache-from", ref, "-t", "built:x", str(context), check=True
    ).stderr
    assert f"no cache from {ref}" in shown


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("type=azblob,name=x", "cache export of type azblob is not supported: expected inline, registry or local"),
        ("type=registry,ref=x,mode=some", "invalid mode some of the cache: expected min or max"),
        ("type=registry,ref=UPPER", "invalid reference format"),
    ],
)
def test_caches_that_cannot_be(buildx: Run, context: Path, to: str, said: str) -> None:
    failed = buildx("build", "--cache-to", to, str(context))
    assert failed.returncode != 0
    assert said in failed.stderr
