"""Where docker buildx's builds go: archives, layouts, registries, several platforms at once."""

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine, docker_cli
from tests.support.registry import Registry

Run = Callable[..., subprocess.CompletedProcess[str]]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
BOTH = "linux/amd64,linux/arm64"


class Layout:
    """An OCI layout in a tar or in a directory."""

    def __init__(self, place: Path) -> None:
        if place.is_dir():
            self.files = {
                str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()
            }
        else:
            with tarfile.open(place) as archive:
                members = [each for each in archive if each.isfile()]
                self.files = {each.name: archive.extractfile(each).read() for each in members}
        self.root: dict[str, Any] = json.loads(self.files["index.json"])["manifests"][0]

    def blob(self, descriptor: dict[str, Any]) -> bytes:
        found = self.files["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
        assert len(found) == descriptor["size"]
        return found

    def document(self, descriptor: dict[str, Any]) -> Any:
        return json.loads(self.blob(descriptor))


def test_an_oci_archive(buildx: Run, context: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    told = tmp_path / "metadata.json"
    output = f"type=oci,dest={out},name=some/name:1,compression=zstd,compression-level=9"
    buildx("buildx", "build", "--metadata-file", str(told), "-o", output, str(context), check=True)
    layout = Layout(out)
    assert json.loads(layout.files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert layout.root["annotations"]["io.containerd.image.name"] == "docker.io/some/name:1"
    manifest = layout.document(layout.root)
    assert layout.root["mediaType"] == manifest["mediaType"] == MANIFEST
    [layer] = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    assert layout.blob(layer).startswith(b"\x28\xb5\x2f\xfd")
    metadata = json.loads(told.read_text())
    assert metadata["containerimage.digest"] == layout.root["digest"]
    assert metadata["containerimage.config.digest"] == manifest["config"]["digest"]
    assert metadata["containerimage.descriptor"]["size"] == layout.root["size"]
    assert metadata["image.name"] == "docker.io/some/name:1"


def test_an_oci_directory(buildx: Run, context: Path, tmp_path: Path) -> None:
    out = tmp_path / "layout"
    buildx("buildx", "build", "-o", f"type=oci,tar=false,dest={out},compression=uncompressed", str(context), check=True)
    layout = Layout(out)
    [layer] = layout.document(layout.root)["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
    with tarfile.open(fileobj=io.BytesIO(layout.blob(layer))) as files:
        assert "amd64/file" in files.getnames()


def test_a_docker_archive_on_standard_output(
    configured: dict[str, str], context: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "out.tar"
    words = [docker_cli(), "buildx", "build", "-o", "type=docker,dest=-", "-t", "one:1", "-t", "two:2", str(context)]
    with out.open("wb") as file:
        subprocess.run(
            words, env={**os.environ, **configured, "DOCKER_HOST": engine.host}, stdout=file, check=True, stderr=-3
        )
    item = json.loads(Layout(out).files["manifest.json"])[0]
    assert item["RepoTags"] == ["one:1", "two:2"]
    assert engine.wherry("image", "inspect", "one:1").returncode != 0
    assert "Loaded image: two:2" in engine.wherry("load", "-i", str(out), check=True).stdout


def test_load_and_image_with_names(buildx: Run, context: Path, tmp_path: Path, engine: Engine) -> None:
    iid = tmp_path / "iid"
    buildx("buildx", "build", "--load", "--iidfile", str(iid), "-t", "one:1", str(context), check=True)
    assert engine.request("GET", "/images/one:1/json").body["Id"] == iid.read_text()
    buildx("buildx", "build", "-o", 'type=image,"name=two:2,three:3"', str(context), check=True)
    assert engine.request("GET", "/images/three:3/json").body["Id"] == iid.read_text()


def test_push_with_annotations(buildx: Run, context: Path, tmp_path: Path, engine: Engine, registry: Registry) -> None:
    name = f"{registry.host}/annotated:1"
    told = tmp_path / "metadata.json"
    buildx(
        "buildx", "build", "--push", "-t", name, "--annotation", "org.example.one=1", "--metadata-file", str(told),
        str(context), check=True,
    )  # fmt: skip
    manifest = registry.manifest("annotated", "1")
    assert manifest["annotations"] == {"org.example.one": "1"}
    assert json.loads(told.read_text())["containerimage.digest"] == registry.digest("annotated", "1")
    engine.wherry("rmi", name, check=True)
    engine.wherry("pull", name, check=True)


def test_registry_with_zstd(buildx: Run, context: Path, registry: Registry) -> None:
    name = f"{registry.host}/small:1"
    buildx("buildx", "build", "-o", f"type=registry,name={name},compression=zstd", str(context), check=True)
    [layer] = registry.manifest("small", "1")["layers"]
    assert layer["mediaType"].endswith("+zstd")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("type=nosuch", "exporter nosuch is not supported: expected image, registry, docker, oci, local or tar"),
        ("type=oci,compression=estargz", "compression=estargz is not supported: expected gzip, zstd or uncompressed"),
        ("type=oci,compression=lz4", "unsupported compression type lz4"),
        ("type=oci,compression-level=10", "invalid compression-level 10 for gzip: expected 0 to 9"),
        ("type=image,push=true", "tag is needed when pushing"),
    ],
)
def test_outputs_that_cannot_be(buildx: Run, context: Path, output: str, said: str) -> None:
    failed = buildx("buildx", "build", "-o", output, str(context))
    assert failed.returncode != 0
    assert said in failed.stderr


# --- several platforms


def test_an_index_in_the_store(buildx: Run, context: Path, engine: Engine) -> None:
    shown = buildx("build", "--progress", "plain", "--platform", BOTH, "-t", "both:1", str(context), check=True).stderr
    assert "[linux/arm64 1/1] COPY file" in shown
    images = {
        platform: engine.request(
            "GET", f'/images/both:1/json?platform={{"os":"linux","architecture":"{platform}"}}'
        ).body
        for platform in ("amd64", "arm64")
    }
    assert {each["Architecture"] for each in images.values()} == {"amd64", "arm64"}
    listed = engine.request("GET", "/images/json").body
    assert images["arm64"]["Id"] not in [each["Id"] for each in listed]
    engine.wherry("tag", "both:1", "both:2", check=True)
    engine.wherry("rmi", "both:1", check=True)
    engine.request("POST", "/images/prune")
    made = engine.wherry("create", "--platform", "linux/arm64", "both:2", "/x", check=True).stdout.strip()
    assert engine.request("GET", f"/containers/{made}/json").body["Image"] == images["arm64"]["Id"]
    engine.wherry("rm", made)
    engine.wherry("rmi", "both:2", check=True)
    for each in images.values():
        assert engine.request("GET", f"/images/{each['Id']}/json").status == 404


def test_an_index_is_pushed(buildx: Run, context: Path, engine: Engine, registry: Registry, tmp_path: Path) -> None:
    name, later = f"{registry.host}/both:1", f"{registry.host}/later:1"
    buildx("build", "--platform", BOTH, "--push", "-t", name, str(context), check=True)
    index = registry.manifest("both", "1")
    assert index["mediaType"] == INDEX
    platforms = [each["platform"]["architecture"] for each in index["manifests"]]
    assert platforms == ["amd64", "arm64"]
    engine.wherry("tag", name, later, check=True)
    engine.wherry("push", later, check=True)
    assert registry.digest("later", "1") == registry.digest("both", "1")
    for each in (name, later):
        engine.wherry("rmi", each, check=True)
    engine.wherry("pull", "--platform", "linux/arm64", name, check=True)
    assert engine.request("GET", f"/images/{name}/json").body["Architecture"] == "arm64"


def test_platforms_in_archives_and_folders(buildx: Run, context: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    buildx("build", "--platform", BOTH, "-o", f"type=oci,dest={out}", str(context), check=True)
    layout = Layout(out)
    assert layout.root["mediaType"] == INDEX
    for each in layout.document(layout.root)["manifests"]:
        config = layout.document(layout.document(each)["config"])
        assert config["architecture"] == each["platform"]["architecture"]
    buildx("build", "--platform", BOTH, "-o", str(tmp_path / "files"), str(context), check=True)
    for each in ("amd64", "arm64"):
        assert (tmp_path / "files" / f"linux_{each}" / each / "file").read_text() == "content\n"
    files = tmp_path / "files.tar"
    buildx("build", "--platform", BOTH, "-o", f"type=tar,dest={files}", str(context), check=True)
    with tarfile.open(files) as archive:
        names = archive.getnames()
    assert {"linux_amd64/amd64/file", "linux_arm64/arm64/file"} <= set(names)
    assert len(names) == len(set(names))
