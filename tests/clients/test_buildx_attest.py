"""What is attested of images: provenance and bills of materials, as docker buildx asks for them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.registry import Registry

Run = Callable[..., subprocess.CompletedProcess[str]]

DOCKERFILE = """\
FROM busybox
ARG WHO=nobody
COPY status /var/lib/dpkg/status
COPY os-release /etc/os-release
COPY METADATA /usr/lib/python3/site-packages/Some_Thing-1.0.dist-info/METADATA
COPY package.json /app/node_modules/@scope/thing/package.json
COPY installed /lib/apk/db/installed
RUN --mount=type=secret,id=key echo $WHO >/who
"""
FILES = {
    "status": "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-2+b1\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
    "os-release": 'ID=debian\nVERSION_ID="12"\n',
    "METADATA": "Metadata-Version: 2.1\nName: Some_Thing\nVersion: 1.0\nLicense: MIT\n\nLong text\nName: other\n",
    "package.json": '{"name": "@scope/thing", "version": "2.0.0", "license": "MIT"}',
    "installed": "P:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\n\n",
}


@pytest.fixture
def context(tmp_path: Path, clean_images: None, busybox: str) -> Path:
    made = tmp_path / "context"
    made.mkdir()
    for name, text in {"Dockerfile": DOCKERFILE, **FILES}.items():
        (made / name).write_text(text)
    return made


def statements(registry: Registry, path: str) -> dict[str, dict[str, Any]]:
    """Of the one image of an index, by their predicates' types."""
    index = registry.manifest(path, "1")
    image, attested = index["manifests"]
    assert attested["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert attested["annotations"] == {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    }
    found = {}
    for layer in registry.manifest(path, attested["digest"])["layers"]:
        _, _, body = registry.request("GET", f"/v2/{path}/blobs/{layer['digest']}")
        statement = json.loads(body)
        assert statement["predicateType"] == layer["annotations"]["in-toto.io/predicate-type"]
        assert statement["subject"][0]["digest"]["sha256"] == image["digest"].removeprefix("sha256:")
        found[statement["predicateType"]] = statement
    return found


def test_provenance_and_sbom_are_pushed(
    buildx: Run, context: Path, engine: Engine, registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("Xq8-a-secret")
    name = f"{registry.host}/attested:1"
    buildx(
        "buildx", "build", "--push", "-t", name, "--sbom=true", "--provenance=mode=max", "--build-arg", "WHO=me",
        "--secret", f"id=key,src={tmp_path / 'key'}", str(context), check=True,
    )  # fmt: skip
    found = statements(registry, "attested")
    assert set(found) == {"https://slsa.dev/provenance/v0.2", "https://spdx.dev/Document"}
    sbom = found["https://spdx.dev/Document"]["predicate"]
    urls = {each["externalRefs"][0]["referenceLocator"] for each in sbom["packages"] if "externalRefs" in each}
    assert urls == {
        "pkg:deb/debian/bash@5.2-2%2Bb1?arch=amd64&distro=debian-12",
        "pkg:apk/debian/musl@1.2.4-r2?arch=x86_64&distro=debian-12",
        "pkg:pypi/some-thing@1.0",
        "pkg:npm/%40scope/thing@2.0.0",
    }
    said = found["https://slsa.dev/provenance/v0.2"]["predicate"]
    assert said["materials"][0]["uri"].startswith("pkg:docker/busybox@latest?platform=linux%2F")
    assert said["invocation"]["parameters"]["args"]["build-arg:WHO"] == "me"
    assert "Xq8-a-secret" not in json.dumps(found)
    engine.wherry("rmi", name, check=True)
    engine.wherry("pull", name, check=True)
    assert engine.wherry("run", "--rm", name, "cat", "/who").stdout == "me\n"


def test_what_is_attested_unasked(
    buildx: Run, docker: Run, configured: dict[str, str], context: Path, engine: Engine, registry: Registry
) -> None:
    """The least provenance, and only where an image leaves: what a client adds unasked costs a local build nothing."""
    usual = {name: value for name, value in configured.items() if name != "BUILDX_NO_DEFAULT_ATTESTATIONS"}
    name = f"{registry.host}/unasked:1"
    docker("buildx", "build", "--push", "-t", name, "--build-arg", "WHO=me", str(context), env=usual, check=True)
    [(kind, found)] = statements(registry, "unasked").items()
    assert kind == "https://slsa.dev/provenance/v0.2"
    assert "build-arg:WHO" not in found["predicate"]["invocation"]["parameters"]["args"]
    docker("buildx", "build", "-t", "built:x", str(context), env=usual, check=True)
    assert engine.request("GET", "/images/built:x/json?manifests=1").body["Manifests"] == []


def test_files_have_theirs_beside_them(buildx: Run, context: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    buildx("buildx", "build", "--sbom=true", "--provenance=version=v1", "-o", str(out), str(context), check=True)
    assert json.loads((out / "sbom.spdx.json").read_text())["predicateType"] == "https://spdx.dev/Document"
    said = json.loads((out / "provenance.json").read_text())
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert said["predicate"]["buildDefinition"]["resolvedDependencies"]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--provenance=mode=some", "invalid mode some of the provenance: expected min or max"),
        ("--provenance=version=v9", "invalid version v9 of the provenance: expected v0.2 or v1"),
        ("--sbom=generator=some/image", "the engine scans images by itself"),
        ("--attest=type=other", "attestation of type other is not supported: expected provenance or sbom"),
    ],
)
def test_what_cannot_be_attested(buildx: Run, context: Path, flag: str, said: str) -> None:
    failed = buildx("buildx", "build", flag, str(context))
    assert failed.returncode != 0
    assert said in failed.stderr
