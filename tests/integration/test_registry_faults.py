"""Pulls with something wrong in between. What fails leaves nothing behind."""

import contextlib
import email.utils
import gzip
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import registry as registries
from tests.support.engine import WHERRY, Engine, docker_cli
from tests.support.faults import HARMLESS, Fault, FaultyProxy
from tests.support.pulls import assert_nothing_left, engine_on_a_disk, pull
from tests.support.registry import OCI_LAYER, Registry, tar_of

pytestmark = pytest.mark.skipif(
    not registries.installed(), reason="needs Debian's packages docker-registry and openssl"
)

Choose = Callable[[str, str, int], Fault]
LAYERS, SIZE = 3, 3 << 20


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """With the image noise:1, whose layers do not compress."""
    with registries.running(Registry(tmp_path_factory.mktemp("registry"))) as found:
        tars = [tar_of({f"noise{number}": random.Random(number).randbytes(SIZE)}) for number in range(LAYERS)]
        layers = [(gzip.compress(tar, 1), OCI_LAYER + "+gzip") for tar in tars]
        found.put_image("noise", "1", layers, plain=tars)
        yield found


@pytest.fixture
def through(registry: Registry) -> Iterator[Callable[[Choose], FaultyProxy]]:
    """Puts a proxy with these faults before the registry."""
    proxies: list[FaultyProxy] = []

    def put(choose: Choose) -> FaultyProxy:
        proxies.append(FaultyProxy(registry.host, choose))
        return proxies[-1]

    yield put
    for proxy in proxies:
        proxy.stop()


def is_blob(path: str) -> bool:
    return "/blobs/sha256:" in path


class TestCut:
    def test_goes_on_where_it_was(self, clean: Engine, through: Callable[[Choose], FaultyProxy]) -> None:
        def twice(method: str, path: str, count: int) -> Fault:
            return Fault(cut_after=1 << 20) if is_blob(path) and count < 2 else HARMLESS

        proxy = through(twice)
        _, error = pull(clean, f"{proxy.host}/noise")
        assert error == ""
        ranges = [headers["range"] for _, path, headers in proxy.requests if "range" in headers and is_blob(path)]
        assert ranges.count("bytes=1048576-") == LAYERS
        assert ranges.count("bytes=2097152-") == LAYERS

    def test_by_a_registry_without_ranges(self, clean: Engine, through: Callable[[Choose], FaultyProxy]) -> None:
        def once(method: str, path: str, count: int) -> Fault:
            if not is_blob(path):
                return HARMLESS
            return Fault(cut_after=1 << 20) if count == 0 else Fault(without_ranges=True)

        _, error = pull(clean, f"{through(once).host}/noise")
        assert error == ""

    def test_again_and_again(self, clean: Engine, through: Callable[[Choose], FaultyProxy]) -> None:
        def always(method: str, path: str, count: int) -> Fault:
            return Fault(cut_after=0) if is_blob(path) else HARMLESS

        _, error = pull(clean, f"{through(always).host}/noise")
        assert "unexpected EOF" in error
        assert_nothing_left(clean)

    def test_by_the_end_of_the_engine(
        self, clean: Engine, registry: Registry, through: Callable[[Choose], FaultyProxy]
    ) -> None:
        """Killed while layers come in, it clears away what there is of them when it starts again."""
        proxy = through(lambda _, path, count: Fault(drip=0.1) if is_blob(path) else HARMLESS)
        name = f"{proxy.host}/noise:1"
        with subprocess.Popen([WHERRY, "pull", name], env={**os.environ, "WHERRY_HOST": clean.host},
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:  # fmt: skip
            deadline = time.monotonic() + 10
            while not list(clean.data_root.glob("tmp/area-*/*")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            clean.kill()
            assert client.wait() == 1
        assert list(clean.data_root.glob("tmp/area-*"))
        clean.start()
        assert_nothing_left(clean)
        _, error = pull(clean, f"{registry.host}/noise")
        assert error == ""


class TestBusy:
    def test_is_asked_again(self, clean: Engine, through: Callable[[Choose], FaultyProxy]) -> None:
        def at_first(method: str, path: str, count: int) -> Fault:
            return Fault(status=(503, 429)[count], headers=(("Retry-After", "1"),)) if count < 2 else HARMLESS

        proxy = through(at_first)
        _, error = pull(clean, f"{proxy.host}/noise")
        assert error == ""
        assert proxy.count("GET", "/manifests/1") == 3

    def test_until_a_moment(self, clean: Engine, through: Callable[[Choose], FaultyProxy]) -> None:
        """Retry-After as a date."""
        moment = email.utils.formatdate(time.time() + 2, usegmt=True)
        fault = Fault(status=429, headers=(("Retry-After", moment),))
        proxy = through(lambda method, path, count: HARMLESS if count else fault)
        begun = time.time()
        _, error = pull(clean, f"{proxy.host}/noise")
        assert error == ""
        assert time.time() >= int(begun) + 2

    def test_for_too_long(self, clean: Engine, through: Callable[[Choose], FaultyProxy]) -> None:
        _, error = pull(clean, f"{through(lambda *_: Fault(status=500)).host}/noise")
        assert error == "received unexpected HTTP status: 500 Internal Server Error"
        assert_nothing_left(clean)

    def test_a_wait_that_nobody_has_time_for(self, clean: Engine, through: Callable[[Choose], FaultyProxy]) -> None:
        body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"come back tomorrow"}]}'
        fault = Fault(status=429, headers=(("Retry-After", "86400"),), body=body)
        _, error = pull(clean, f"{through(lambda *_: fault).host}/noise")
        assert error == "toomanyrequests: come back tomorrow"

    def test_slow_drips(self, clean: Engine, through: Callable[[Choose], FaultyProxy]) -> None:
        _, error = pull(clean, f"{through(lambda *_: Fault(drip=0.01)).host}/noise")
        assert error == ""


class TestPush:
    @pytest.fixture
    def image(self, clean: Engine, registry: Registry) -> str:
        """One that no registry has yet, and its digest."""
        pull(clean, f"{registry.host}/noise")
        return f"{registry.host}/noise:1"

    def push(self, engine: Engine, image: str, name: str) -> tuple[list[dict[str, Any]], str]:
        repository, _, tag = name.rpartition(":")
        engine.request("POST", f"/v1.51/images/{image}/tag?repo={repository}&tag={tag}")
        body = engine.request("POST", f"/v1.51/images/{repository}/push?tag={tag}").body
        found = [json.loads(line) for line in body.splitlines()]
        return found, str(found[-1].get("error", ""))

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(status=503, headers=(("Retry-After", "1"),)),
            Fault(status=500),
            Fault(cut_after=0),
        ],
        ids=["busy", "broken", "cut"],
    )
    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_is_tried_again(
        self, clean: Engine, registry: Registry, image: str, through: Callable[[Choose], FaultyProxy],
        fault: Fault, method: str,
    ) -> None:  # fmt: skip
        seen: set[str] = set()

        def once(asked: str, path: str, count: int) -> Fault:
            kind = path.partition("?")[0].rpartition("/")[0]
            if asked != method or kind in seen:
                return HARMLESS
            seen.add(kind)
            return fault

        repository = f"again/{method.lower()}{fault.status}"
        _, error = self.push(clean, image, f"{through(once).host}/{repository}:1")
        assert error == ""
        assert registry.digest(repository, "1") == registry.digest("noise", "1")

    def test_that_does_not_arrive(
        self, clean: Engine, registry: Registry, image: str, through: Callable[[Choose], FaultyProxy]
    ) -> None:
        """No manifest without its layers."""
        proxy = through(lambda method, path, count: Fault(status=507) if method == "PUT" else HARMLESS)
        _, error = self.push(clean, image, f"{proxy.host}/never:1")
        assert error == "received unexpected HTTP status: 507 Insufficient Storage"
        assert proxy.count("PUT", "/manifests/") == 0


class TestWrongBytes:
    @pytest.mark.parametrize("at", [100, 2 << 20])
    def test_of_a_layer(self, clean: Engine, through: Callable[[Choose], FaultyProxy], at: int) -> None:
        _, error = pull(
            clean,
            f"{through(lambda _, path, count: Fault(flip_at=at) if is_blob(path) else HARMLESS).host}/noise",
        )
        assert "verification failed for digest" in error or "broken gzip data" in error
        assert "\n" not in error
        assert_nothing_left(clean)

    def test_of_a_manifest(self, clean: Engine, registry: Registry, through: Callable[[Choose], FaultyProxy]) -> None:
        digest = registry.digest("noise", "1")
        proxy = through(lambda _, path, count: Fault(flip_at=20) if "/manifests/" in path else HARMLESS)
        _, error = pull(clean, f"{proxy.host}/noise", digest)
        assert error.startswith(f"manifest verification failed for digest {digest}")
        assert_nothing_left(clean)


class TestSharing:
    def test_two_pulls_fetch_once(self, clean: Engine, through: Callable[[Choose], FaultyProxy]) -> None:
        proxy = through(lambda _, path, count: Fault(drip=0.02) if is_blob(path) else HARMLESS)
        results: list[str] = []
        pulls = [
            threading.Thread(target=lambda: results.append(pull(clean, f"{proxy.host}/noise")[1])) for _ in range(3)
        ]
        for each in pulls:
            each.start()
        for each in pulls:
            each.join()
        assert results == ["", "", ""]
        layers = [path for method, path, _ in proxy.requests if is_blob(path)]
        assert all(layers.count(path) == 1 for path in layers if layers.count(path) != 3), layers
        assert sum(layers.count(path) == 1 for path in set(layers)) >= LAYERS

    def test_one_that_goes_does_not_end_the_other(
        self, clean: Engine, through: Callable[[Choose], FaultyProxy]
    ) -> None:
        proxy = through(lambda _, path, count: Fault(drip=0.05) if is_blob(path) else HARMLESS)
        leaving = subprocess.Popen(
            [docker_cli(), "pull", f"{proxy.host}/noise:1"], env={**os.environ, "DOCKER_HOST": clean.host},
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert leaving.stdout is not None
        while b"Pulling fs layer" not in leaving.stdout.readline():
            pass
        staying: list[str] = []
        other = threading.Thread(target=lambda: staying.append(pull(clean, f"{proxy.host}/noise")[1]))
        other.start()
        leaving.kill()
        leaving.wait()
        other.join()
        assert staying == [""]

    def test_a_pull_that_is_left_ends(self, clean: Engine, through: Callable[[Choose], FaultyProxy]) -> None:
        proxy = through(lambda _, path, count: Fault(drip=0.2) if is_blob(path) else HARMLESS)
        with subprocess.Popen(
            [docker_cli(), "pull", f"{proxy.host}/noise:1"], env={**os.environ, "DOCKER_HOST": clean.host},
            stdout=subprocess.PIPE,
        ) as leaving:  # fmt: skip
            assert leaving.stdout is not None
            while b"Pulling fs layer" not in leaving.stdout.readline():
                pass
            leaving.kill()
        assert_nothing_left(clean)


class TestFullDisk:
    @pytest.fixture
    def small(self, tmp_path: Path) -> Iterator[Engine]:
        """Beside what is reserved for the state there is room for the layers, but not for much more."""
        with engine_on_a_disk(tmp_path, 34) as engine:
            yield engine

    def test_leaves_nothing(self, small: Engine, registry: Registry) -> None:
        filler = small.data_root / "filler"
        with filler.open("wb") as file:
            free = os.statvfs(small.data_root)
            file.write(bytes(free.f_bavail * free.f_frsize - (LAYERS * SIZE + (1 << 20))))
        _, error = pull(small, f"{registry.host}/noise")
        assert "no space left on device" in error.lower() or "than the file system has room for" in error
        assert_nothing_left(small)
        filler.unlink()
        _, error = pull(small, f"{registry.host}/noise")
        assert error == ""

    def test_what_cannot_fit_is_not_begun(self, small: Engine, registry: Registry) -> None:
        with (small.data_root / "filler").open("wb") as file:
            free = os.statvfs(small.data_root)
            file.write(bytes(free.f_bavail * free.f_frsize - (4 << 20)))
        _, error = pull(small, f"{registry.host}/noise")
        assert error.startswith("no space left on device: the image's layers have")
        assert_nothing_left(small)

    def test_not_a_byte_is_left(self, small: Engine, registry: Registry) -> None:
        """But what is reserved for the state: the engine says so, serves on, and goes on when there is room again."""
        tar = tar_of({"small": b"small"})
        for tag in ("1", "2"):
            layers = [(tar, OCI_LAYER)]
            registry.put_image("little", tag, layers, config={"Labels": {"tag": tag}})
        name = f"{registry.host}/little"
        assert pull(small, name, "1")[1] == ""
        filler = small.data_root / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1024))
        assert pull(small, name, "2")[1] == "no space left on device"
        answer = small.request("POST", f"/v1.51/images/{name}:1/tag?repo=another")
        assert answer.status == 201
        [image] = small.request("GET", "/v1.51/images/json").body
        assert image["RepoTags"] == [f"{name}:1", "another:latest"]
        assert not list((small.data_root / "tmp").iterdir())
        filler.unlink()
        assert pull(small, name, "2")[1] == ""
