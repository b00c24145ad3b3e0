"""Layers that were made here go to a registry as gzip, once; those that came as something else go as they came."""

import contextlib
import gzip
import http.server
import json
import os
import random
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.support import registry as registries
from tests.support.engine import Engine, docker_cli
from tests.support.faults import HARMLESS, Fault, FaultyProxy
from tests.support.registry import Registry, digest_of, tar_of

GZIP = registries.OCI_LAYER + "+gzip"
TEXT = b"the same line again\n" * 50_000

Through = Callable[[Callable[[str, str, int], Fault]], FaultyProxy]


@pytest.fixture
def through(registry: Registry) -> Iterator[Through]:
    """Puts a proxy with these faults before the registry."""
    with contextlib.ExitStack() as stack:

        def put(choose: Callable[[str, str, int], Fault]) -> FaultyProxy:
            proxy = FaultyProxy(registry.host, choose)
            stack.callback(proxy.stop)
            return proxy

        yield put


@pytest.fixture
def proxy(through: Through) -> FaultyProxy:
    """One that only counts."""
    return through(lambda *_: HARMLESS)


def make(engine: Engine, name: str, tar: bytes) -> str:
    """An image of one layer, which was not here before; the layer's diff id."""
    repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
    answer = engine.request("POST", f"/v1.51/images/create?fromSrc=-&repo={repository}&tag={tag}", tar)
    assert answer.status == 200, answer
    return digest_of(tar)


def add_layer(engine: Engine, base: str, name: str, text: str) -> None:
    made = engine.wherry("create", base, "sh", check=True).stdout.strip()
    tar = tar_of({"added": text.encode()})
    assert engine.request("PUT", f"/v1.51/containers/{made}/archive?path=/", tar).status == 200
    engine.wherry("commit", made, name, check=True)
    engine.wherry("rm", made, check=True)


def manifest_of(registry: Registry, repository: str, tag: str = "latest") -> dict[str, Any]:
    accept = {"Accept": f"{registries.OCI_MANIFEST}, {registries.DOCKER_MANIFEST}"}
    status, _, body = registry.request("GET", f"/v2/{repository}/manifests/{tag}", headers=accept)
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


def blob_of(registry: Registry, repository: str, descriptor: dict[str, Any]) -> bytes:
    status, _, body = registry.request("GET", f"/v2/{repository}/blobs/{descriptor['digest']}")
    assert (status, len(body), digest_of(body)) == (200, descriptor["size"], descriptor["digest"])
    return body


class StuckRegistry:
    """Takes the beginning of an upload, and no more until it is asked for the ``rest``."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self._left, self._ended = threading.Event(), threading.Event()
        self._end = b""
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"

    def rest(self) -> bytes:
        """The last bytes that came before the connection ended."""
        self._left.set()
        assert self._ended.wait(30)
        return self._end

    def __enter__(self) -> "StuckRegistry":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Location", "/v2/upload")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                self.answer(200)

            def do_POST(self) -> None:
                self.answer(202)

            def do_PATCH(self) -> None:
                self.rfile.read(1 << 16)
                registry.began.set()
                registry._left.wait()
                with contextlib.suppress(ConnectionResetError):
                    while data := self.rfile.read1(1 << 20):
                        registry._end = data[-5:]
                self.close_connection = True
                registry._ended.set()

            def log_message(self, format: str, *arguments: object) -> None:
                return

        return Handler


class TestForm:
    def test_gzip_without_name_and_time(self, registry: Registry, clean: Engine) -> None:
        name = f"{registry.host}/packed/form"
        diff_id = make(clean, name, tar_of({"text": TEXT}))
        clean.wherry("push", name, check=True)
        [layer] = manifest_of(registry, "packed/form")["layers"]
        assert layer["mediaType"] == GZIP
        blob = blob_of(registry, "packed/form", layer)
        assert blob[:8] == b"\x1f\x8b\x08\0\0\0\0\0"
        assert digest_of(gzip.decompress(blob)) == diff_id
        assert len(blob) < len(TEXT) / 20
        for run in (clean.docker, clean.wherry):
            shown = json.loads(run("manifest", "inspect", "--insecure", name, check=True).stdout)
            assert [layer["mediaType"] for layer in shown["layers"]] == [GZIP]

    def test_the_same_from_every_engine(self, registry: Registry, clean: Engine, engine: Engine) -> None:
        tar = tar_of({"text": TEXT, "noise": random.Random(1).randbytes(3 << 20)})
        found = []
        for number, each in enumerate((clean, engine)):
            name = f"{registry.host}/packed/same{number}"
            make(each, name, tar)
            each.wherry("push", name, check=True)
            each.wherry("rmi", name, check=True)
            found.append(manifest_of(registry, f"packed/same{number}")["layers"])
        assert found[0] == found[1]

    def test_progress_counts_the_files(self, registry: Registry, clean: Engine) -> None:
        """In bytes before they are packed, as in Docker: nobody knows how many it will be after that."""
        name = f"{registry.host}/packed/progress"
        tar = tar_of({"text": TEXT})
        make(clean, name, tar)
        body = clean.request("POST", f"/v1.51/images/{name}/push?tag=latest").body
        details = [json.loads(line).get("progressDetail") for line in body.splitlines()]
        assert {"current": len(tar), "total": len(tar)} in details

    @pytest.mark.parametrize("kind", ["gzip", "zstd", "plain"])
    def test_what_is_below_goes_as_it_came(self, registry: Registry, clean: Engine, kind: str) -> None:
        pack: Callable[[bytes], bytes] = {"gzip": gzip.compress, "zstd": zstandard.compress, "plain": bytes}[kind]
        media_type = registries.OCI_LAYER + {"gzip": "+gzip", "zstd": "+zstd", "plain": ""}[kind]
        repository, tar = f"packed/below{kind}", tar_of({kind: TEXT})
        blob = pack(tar)
        registry.put_image(repository, "base", [(blob, media_type)], plain=[tar])
        base = f"{registry.host}/{repository}:base"
        clean.wherry("pull", base, check=True)
        add_layer(clean, base, f"{registry.host}/{repository}", "above")
        pushed = clean.wherry("push", f"{registry.host}/{repository}", check=True).stdout
        assert pushed.count("Layer already exists") == 1
        below, above = manifest_of(registry, repository)["layers"]
        assert below == {"mediaType": media_type, "digest": digest_of(blob), "size": len(blob)}
        assert above["mediaType"] == GZIP

    def test_what_a_plain_archive_brought(self, registry: Registry, clean: Engine, tmp_path: Path) -> None:
        """It stays plain here, before a push and after it."""
        name = f"{registry.host}/packed/archive"
        make(clean, name, tar_of({"text": TEXT}))
        clean.wherry("save", "-o", str(tmp_path / "before"), name, check=True)
        clean.wherry("rmi", name, check=True)
        clean.wherry("load", "-i", str(tmp_path / "before"), check=True)
        clean.wherry("push", name, check=True)
        assert [layer["mediaType"] for layer in manifest_of(registry, "packed/archive")["layers"]] == [GZIP]
        clean.wherry("save", "-o", str(tmp_path / "after"), name, check=True)
        assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()

    @pytest.mark.skipif(not shutil.which("skopeo"), reason="no skopeo")
    def test_what_a_packed_archive_brought(self, registry: Registry, clean: Engine, tmp_path: Path) -> None:
        """And skopeo finds in the registry what was put there."""
        layer = tar_of({"text": TEXT})
        registry.put_image("packed/skopeo", "1", [(gzip.compress(layer, 1), GZIP)], plain=[layer])
        copy = ["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false"]
        source, archive = f"docker://{registry.host}/packed/skopeo:1", f"oci-archive:{tmp_path}/archive:of/skopeo:2"
        subprocess.run([*copy, source, archive], check=True)
        clean.wherry("load", "-i", str(tmp_path / "archive"), check=True)
        name = f"{registry.host}/packed/skopeo:3"
        image = clean.request("GET", "/v1.51/images/json").body[0]["Id"]
        clean.wherry("tag", image, name, check=True)
        clean.wherry("push", name, check=True)
        assert registry.digest("packed/skopeo", "3") == registry.digest("packed/skopeo", "1")

    @pytest.mark.skipif(not shutil.which("skopeo"), reason="no skopeo")
    def test_is_read_by_others(self, registry: Registry, clean: Engine, tmp_path: Path) -> None:
        name = f"{registry.host}/packed/others"
        diff_id = make(clean, name, tar_of({"text": TEXT}))
        image = clean.request("GET", "/v1.51/images/json").body[0]["Id"]
        clean.wherry("push", name, check=True)
        copy = ["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false"]
        subprocess.run([*copy, f"docker://{name}", f"dir:{tmp_path}/dir"], check=True)
        config = tmp_path / "dir" / image.removeprefix("sha256:")
        assert json.loads(config.read_bytes())["rootfs"]["diff_ids"] == [diff_id]
        clean.wherry("rmi", name, check=True)
        clean.wherry("pull", name, check=True)
        assert [each["Id"] for each in clean.request("GET", "/v1.51/images/json").body] == [image]


class TestOnce:
    """What a registry has is not packed again to find that out."""

    def test_pushed_again(self, registry: Registry, clean: Engine, proxy: FaultyProxy) -> None:
        name = f"{proxy.host}/packed/again"
        make(clean, name, tar_of({"text": TEXT}))
        clean.wherry("push", name, check=True)
        assert proxy.count("PATCH", "") == 1
        clean.wherry("tag", name, f"{name}:2", check=True)
        for again in (name, f"{name}:2"):
            assert clean.wherry("push", again, check=True).stdout.count("Layer already exists") == 1
        assert proxy.count("PATCH", "") == 1
        assert registry.digest("packed/again", "latest") == registry.digest("packed/again", "2")

    def test_pushed_elsewhere(self, registry: Registry, clean: Engine, proxy: FaultyProxy) -> None:
        name, other = f"{proxy.host}/packed/from", f"{proxy.host}/packed/to"
        make(clean, name, tar_of({"text": TEXT}))
        clean.wherry("push", name, check=True)
        clean.wherry("tag", name, other, check=True)
        assert "Mounted from packed/from" in clean.wherry("push", other, check=True).stdout
        assert proxy.count("PATCH", "") == 1
        assert registry.digest("packed/to", "latest") == registry.digest("packed/from", "latest")

    def test_of_another_image(self, registry: Registry, clean: Engine, proxy: FaultyProxy, busybox_tar: bytes) -> None:
        name = f"{proxy.host}/packed/shared"
        make(clean, f"{name}:1", tar_of({"below": TEXT}))
        clean.wherry("push", f"{name}:1", check=True)
        add_layer(clean, f"{name}:1", f"{name}:2", "two")
        clean.wherry("push", f"{name}:2", check=True)
        assert proxy.count("PATCH", "") == 2
        [below] = manifest_of(registry, "packed/shared", "1")["layers"]
        assert manifest_of(registry, "packed/shared", "2")["layers"][0] == below

    def test_packed_otherwise(self, registry: Registry, clean: Engine, tmp_path: Path) -> None:
        """By another version of the library than the one whose digest is remembered."""
        name = f"{registry.host}/packed/otherwise"
        make(clean, name, tar_of({"text": TEXT}))
        clean.wherry("push", name, check=True)
        [layer] = manifest_of(registry, "packed/otherwise")["layers"]
        other = digest_of(b"of another library")
        self.change(clean, "UPDATE pushed_as SET digest = ?, size = 1 WHERE digest = ?", other, layer["digest"])
        with registries.running(Registry(tmp_path)) as second:
            clean.wherry("tag", name, f"{second.host}/packed/otherwise", check=True)
            clean.wherry("push", f"{second.host}/packed/otherwise", check=True)
            assert manifest_of(second, "packed/otherwise")["layers"] == [layer]
        self.change(clean, "DELETE FROM pushed_as WHERE digest = ?", layer["digest"])

    def change(self, engine: Engine, sql: str, *digests: str) -> None:
        """One row of the engine's state."""
        engine.stop()
        with contextlib.closing(sqlite3.connect(engine.data_root / "state.db")) as database, database:
            changed = database.execute(sql, digests).rowcount
        engine.start()
        assert changed == 1


class TestFaults:
    @pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
    @pytest.mark.parametrize("fault", [Fault(status=503), Fault(cut_after=0)], ids=["busy", "cut"])
    def test_is_begun_again(
        self, registry: Registry, clean: Engine, through: Through, method: str, fault: Fault
    ) -> None:
        failed: list[str] = []

        def once(asked: str, path: str, count: int) -> Fault:
            if asked != method or "/blobs/" not in path or failed:
                return HARMLESS
            failed.append(path)
            return fault

        repository = f"packed/{method.lower()}{fault.status}"
        proxy = through(once)
        diff_id = make(clean, f"{proxy.host}/{repository}", tar_of({"text": TEXT}))
        clean.wherry("push", f"{proxy.host}/{repository}", check=True)
        assert failed
        [layer] = manifest_of(registry, repository)["layers"]
        assert digest_of(gzip.decompress(blob_of(registry, repository, layer))) == diff_id

    def test_is_sent_to_where_it_is_redirected(self, registry: Registry, clean: Engine, through: Through) -> None:
        def once(method: str, path: str, count: int) -> Fault:
            return Fault(status=307, headers=(("Location", path),)) if (method, count) == ("PATCH", 0) else HARMLESS

        proxy = through(once)
        diff_id = make(clean, f"{proxy.host}/packed/redirected", tar_of({"text": TEXT}))
        clean.wherry("push", f"{proxy.host}/packed/redirected", check=True)
        assert proxy.count("PATCH", "") == 2
        [layer] = manifest_of(registry, "packed/redirected")["layers"]
        assert digest_of(gzip.decompress(blob_of(registry, "packed/redirected", layer))) == diff_id

    def test_a_push_that_is_left_ends(self, clean: Engine) -> None:
        with StuckRegistry() as stuck:
            name = f"{stuck.host}/packed/left"
            make(clean, name, tar_of({"noise": random.Random(2).randbytes(32 << 20)}))
            environment = {**os.environ, "DOCKER_HOST": clean.host}
            with subprocess.Popen([docker_cli(), "push", name], env=environment) as leaving:
                assert stuck.began.wait(30)
                leaving.kill()
            assert stuck.rest() != b"0\r\n\r\n", "the upload was not cut off"
