"""Pulls from a registry that means harm. Nothing of what is refused stays."""

import gzip
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.faults import Fault, FaultyProxy, ScriptedRegistry
from tests.support.pulls import assert_nothing_left, engine_on_a_disk, pull
from tests.support.registry import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, digest_of, tar_of


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
        scripted.pages["/v2/x/manifests/" + entry["digest"]] = (document, OCI_INDEX)
        assert "manifest verification failed" in self.refused(clean, scripted)

    def test_indexes_without_end(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        inner = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "2" * 64, "size": 2}
        for _ in range(20):
            document = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner]}).encode()
            inner = {"mediaType": OCI_INDEX, "digest": self.serve(scripted, document, OCI_INDEX), "size": len(document)}
        assert "nested too deep" in self.refused(clean, scripted)

    def test_too_many_layers(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        layer = self.blob(scripted, tar_of({"x": b""}))
        self.image(scripted, [layer["digest"]] * 5000, [layer] * 5000)
        assert "max depth exceeded" in self.refused(clean, scripted)

    def test_one_layer_many_times(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        """That is allowed, and the layer comes once; with two sizes it is not."""
        tar = tar_of({"x": b"content"})
        layer = self.blob(scripted, tar)
        self.image(scripted, [layer["digest"]] * 20, [layer] * 20)
        _, error = pull(clean, f"{scripted.host}/x")
        assert error == ""
        assert scripted.count("GET", layer["digest"]) == 1
        (image,) = clean.request("GET", "/v1.51/images/json").body
        clean.request("DELETE", f"/v1.51/images/{image['Id']}?force=1")
        self.image(scripted, [layer["digest"]] * 2, [layer, layer | {"size": len(tar) + 1}])
        self.refused(clean, scripted)
        self.image(scripted, [layer["digest"]] * 2, [layer | {"size": len(tar) + 1}, layer])
        assert "sizes" in self.refused(clean, scripted)

    @pytest.mark.parametrize("size", [-1, 0, 1, 1 << 62, 1 << 70, 1.5, "many"])
    def test_wrong_sizes(self, clean: Engine, scripted: ScriptedRegistry, size: Any) -> None:
        layer = self.blob(scripted, tar_of({"x": b"content"}))
        self.image(scripted, [layer["digest"]], [layer | {"size": size}])
        self.refused(clean, scripted)

    @pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "md5:" + "1" * 32, "", "sha512:" + "1" * 128])
    def test_wrong_digests(self, clean: Engine, scripted: ScriptedRegistry, digest: str) -> None:
        layer = self.blob(scripted, tar_of({"x": b"content"}))
        self.image(scripted, [layer["digest"]], [layer | {"digest": digest}])
        assert "digest" in self.refused(clean, scripted)

    def test_another_tar_than_the_configuration_says(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        layer = self.blob(scripted, tar_of({"x": b"content"}))
        self.image(scripted, ["sha256:" + "3" * 64], [layer])
        assert "don't match image configuration" in self.refused(clean, scripted)

    def test_more_layers_than_the_configuration_has(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        layer = self.blob(scripted, tar_of({"x": b"content"}))
        self.image(scripted, [], [layer])
        assert "number of layers and diffIDs don't match" in self.refused(clean, scripted)

    def test_a_layer_that_is_none(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        layer = self.blob(scripted, b"no tar at all" * 100)
        self.image(scripted, [layer["digest"]], [layer])
        self.refused(clean, scripted)

    def test_a_layer_that_climbs_out(self, clean: Engine, scripted: ScriptedRegistry) -> None:
        layer = self.blob(scripted, tar_of({"../../../../../../tmp/wherry-escaped": b"content"}))
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
