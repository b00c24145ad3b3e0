"""Pulls with something wrong in between, or with a registry that means harm. What fails leaves nothing behind."""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import registry as registries
from tests.support.engine import WHERRY, Engine, wait_until_gone
from tests.support.faults import HARMLESS, Fault, FaultyProxy, ScriptedRegistry
from tests.support.registry import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Registry, digest_of

pytestmark = pytest.mark.skipif(
    not registries.installed(), reason="needs Debian's packages docker-registry and openssl"
)

Choose = Callable[[str, str, int], Fault]
LAYERS, SIZE = 3, 3 << 20


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """With the image noise:1, whose layers do not compress."""
    with registries.running(Registry(tmp_path_factory.mktemp("registry"))) as found:
        tars = [_tar(f"noise{number}", random.Random(number).randbytes(SIZE)) for number in range(LAYERS)]
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


@pytest.fixture
def scripted() -> Iterator[ScriptedRegistry]:
    server = ScriptedRegistry()
    yield server
    server.stop()


def _tar(name: str, content: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def pull(engine: Engine, name: str, tag: str = "1") -> tuple[list[dict[str, Any]], str]:
    """The messages of a pull, and its error, "" for none."""
    answer = engine.request("POST", f"/v1.51/images/create?fromImage={name}&tag={tag}")
    body = answer.body
    found = [json.loads(line) for line in body.splitlines() if line.strip()] if isinstance(body, bytes) else [body]
    return found, str(found[-1].get("error") or found[-1].get("message") or "")


def assert_nothing_left(engine: Engine) -> None:
    """No blob, no layer, nothing in the staging area: of an engine that has no image."""
    assert engine.request("GET", "/v1.51/images/json?all=1").body == []
    left = wait_until_gone(
        lambda: [path for name in ("blobs/sha256", "layers", "tmp") for path in (engine.data_root / name).glob("*")]
    )
    assert not left


@pytest.fixture(scope="module")
def _own() -> Iterator[Engine]:
    if os.geteuid() != 0:
        pytest.skip("layers need root")
    found = Engine()
    try:
        found.start()
        yield found
        found.stop()
    finally:
        found.discard()


@pytest.fixture
def clean(_own: Engine) -> Engine:
    """An engine without images."""
    for image in _own.request("GET", "/v1.51/images/json?all=1").body:
        _own.request("DELETE", f"/v1.51/images/{image['Id']}?force=1")
    return _own


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
            ["docker", "pull", f"{proxy.host}/noise:1"], env={**os.environ, "DOCKER_HOST": clean.host},
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
            ["docker", "pull", f"{proxy.host}/noise:1"], env={**os.environ, "DOCKER_HOST": clean.host},
            stdout=subprocess.PIPE,
        ) as leaving:  # fmt: skip
            assert leaving.stdout is not None
            while b"Pulling fs layer" not in leaving.stdout.readline():
                pass
            leaving.kill()
        assert_nothing_left(clean)


@contextlib.contextmanager
def engine_on_a_disk(tmp_path: Path, megabytes: int) -> Iterator[Engine]:
    """An engine whose data root is a file system of its own."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs Debian's package e2fsprogs")
    engine = Engine()
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(disk)], check=True)
    engine.data_root.mkdir()
    if subprocess.run(["mount", "-o", "loop", str(disk), str(engine.data_root)], check=False).returncode:
        engine.discard()
        pytest.skip("no loop devices")
    (engine.data_root / "lost+found").rmdir()
    try:
        engine.start()
        yield engine
    finally:
        engine.kill()
        wait_until_gone(engine.processes)
        subprocess.run(["umount", str(engine.data_root)], check=False)
        engine.discard()


class TestFullDisk:
    @pytest.fixture
    def small(self, tmp_path: Path) -> Iterator[Engine]:
        """There is room for two of the layers, but not for them all."""
        with engine_on_a_disk(tmp_path, 24) as engine:
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


class TestHostile:
    """A registry that serves whatever it likes."""

    @pytest.fixture(autouse=True)
    def _nothing_left(self, clean: Engine) -> Iterator[None]:
        yield
        assert_nothing_left(clean)

    def serve(self, scripted: ScriptedRegistry, document: Any, kind: str = OCI_MANIFEST, tag: str = "1") -> str:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = digest_of(data)
        scripted.pages[f"/v2/x/manifests/{tag}"] = scripted.pages[f"/v2/x/manifests/{digest}"] = (data, kind)
        return digest

    def blob(self, scripted: ScriptedRegistry, data: bytes, kind: str = OCI_LAYER, **other: Any) -> dict[str, Any]:
        digest = digest_of(data)
        scripted.pages[f"/v2/x/blobs/{digest}"] = (data, "application/octet-stream")
        return {"mediaType": kind, "digest": digest, "size": len(data)} | other

    def image(
        self, scripted: ScriptedRegistry, diff_ids: list[str], layers: list[dict[str, Any]], **other: Any
    ) -> None:
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}} | other
        found = self.blob(scripted, json.dumps(config).encode(), OCI_CONFIG)
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": found, "layers": layers}
        self.serve(scripted, document)

    def refused(self, clean: Engine, scripted: ScriptedRegistry) -> str:
        _, error = pull(clean, f"{scripted.host}/x")
        assert error
        assert "\n" not in error
        assert len(error) < 1000
        assert "internal" not in error.lower()
        return error

    def test_a_manifest_without_end(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        self.serve(scripted, b"{" + b" " * (5 << 20) + b"}")
        assert "longer than" in self.refused(clean, scripted)

    @pytest.mark.parametrize("data", [b"", b"nonsense", b"[]", b"{}", b"[" * 100_000, b'{"schemaVersion": 2}', b"\xff"])
    def test_no_manifest(self, clean: Engine, scripted: ScriptedRegistry, data: bytes) -> None:
        self.serve(scripted, data)
        self.refused(clean, scripted)

    def test_schema_1(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        self.serve(
            scripted, {"schemaVersion": 1, "fsLayers": []}, "application/vnd.docker.distribution.manifest.v1+json"
        )
        assert "schema 1 is not supported" in self.refused(clean, scripted)

    def test_two_documents_in_one(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        config = self.blob(scripted, b"{}", OCI_CONFIG)
        self.serve(scripted, {"schemaVersion": 2, "config": config, "layers": [], "manifests": []})
        assert "both a manifest and an index" in self.refused(clean, scripted)

    def test_an_index_that_leads_to_itself(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        # Digests cannot form a circle; a registry that lies about one is found out by it.
        entry = {"mediaType": OCI_INDEX, "digest": "sha256:" + "1" * 64, "size": 10,
                 "platform": {"architecture": "amd64", "os": "linux"}}  # fmt: skip
        document = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
        self.serve(scripted, document, OCI_INDEX)
        scripted.pages["/v2/x/manifests/" + entry["digest"]] = (document, OCI_INDEX)  # type: ignore[operator]
        assert "manifest verification failed" in self.refused(clean, scripted)

    def test_indexes_without_end(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        inner = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "2" * 64, "size": 2}
        for _ in range(20):
            document = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner]}).encode()
            inner = {"mediaType": OCI_INDEX, "digest": self.serve(scripted, document, OCI_INDEX), "size": len(document)}
        assert "nested too deep" in self.refused(clean, scripted)

    def test_too_many_layers(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        layer = self.blob(scripted, _tar("x", b""))
        self.image(scripted, [layer["digest"]] * 5000, [layer] * 5000)
        assert "max depth exceeded" in self.refused(clean, scripted)

    @pytest.mark.parametrize("size", [-1, 0, 1, 1 << 62, 1 << 70, 1.5, "many"])
    def test_wrong_sizes(self, clean: Engine, scripted: ScriptedRegistry, size: Any) -> None:
        layer = self.blob(scripted, _tar("x", b"content"))
        self.image(scripted, [layer["digest"]], [layer | {"size": size}])
        self.refused(clean, scripted)

    @pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "md5:" + "1" * 32, "", "sha512:" + "1" * 128])
    def test_wrong_digests(self, clean: Engine, scripted: ScriptedRegistry, digest: str) -> None:
        layer = self.blob(scripted, _tar("x", b"content"))
        self.image(scripted, [layer["digest"]], [layer | {"digest": digest}])
        assert "digest" in self.refused(clean, scripted)

    def test_another_tar_than_the_configuration_says(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        layer = self.blob(scripted, _tar("x", b"content"))
        self.image(scripted, ["sha256:" + "3" * 64], [layer])
        assert "don't match image configuration" in self.refused(clean, scripted)

    def test_more_layers_than_the_configuration_has(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        layer = self.blob(scripted, _tar("x", b"content"))
        self.image(scripted, [], [layer])
        assert "number of layers and diffIDs don't match" in self.refused(clean, scripted)

    def test_a_layer_that_is_none(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        layer = self.blob(scripted, b"no tar at all" * 100)
        self.image(scripted, [layer["digest"]], [layer])
        self.refused(clean, scripted)

    def test_a_layer_that_climbs_out(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        layer = self.blob(scripted, _tar("../../../../../../tmp/wherry-escaped", b"content"))
        self.image(scripted, [layer["digest"]], [layer])
        pull(clean, f"{scripted.host}/x")
        assert not Path("/tmp/wherry-escaped").exists()
        for image in clean.request("GET", "/v1.51/images/json").body:
            clean.request("DELETE", f"/v1.51/images/{image['Id']}?force=1")

    def test_an_artifact(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        config = self.blob(scripted, b"{}", "application/vnd.cncf.helm.config.v1+json")
        self.serve(scripted, {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []})
        assert "not an image" in self.refused(clean, scripted)

    def test_of_another_system(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        self.image(scripted, [], [], os="windows")
        assert 'operating system "windows" cannot be used' in self.refused(clean, scripted)

    def test_texts_that_steer_the_terminal(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        body = json.dumps({"errors": [{"code": "DENIED", "message": "\x1b[2J\nno"}]}).encode()
        proxy = FaultyProxy(scripted.host, lambda *_: Fault(status=403, body=body))
        try:
            _, error = pull(clean, f"{proxy.host}/x")
            assert "\x1b" not in error
            assert error.startswith(f"pull access denied for {proxy.host}/x, repository does not exist or may require")
        finally:
            proxy.stop()


class TestBomb:
    def test_does_not_fill_the_disk(self, tmp_path: Path, scripted: ScriptedRegistry) -> None:
        """Half a gigabyte of nothing in half a megabyte, on a disk of 64 MB."""
        with engine_on_a_disk(tmp_path, 64) as engine:
            hostile = TestHostile()
            header = tarfile.TarInfo("bomb")
            header.size = 512 << 20
            bomb = gzip.compress(header.tobuf() + bytes(512 << 20), 1)
            layer = hostile.blob(scripted, bomb, OCI_LAYER + "+gzip")
            hostile.image(scripted, ["sha256:" + "4" * 64], [layer])
            _, error = pull(engine, f"{scripted.host}/x")
            assert "than the file system has room for" in error or "no space left" in error.lower()
            assert_nothing_left(engine)
