"""Where wherry build's results go: the same as docker buildx's."""

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.registry import Registry

Run = Callable[..., subprocess.CompletedProcess[str]]

BOTH = "linux/amd64,linux/arm64"


def test_an_index_with_what_is_attested_is_pushed(
    wherry: Run, context: Path, registry: Registry, tmp_path: Path, engine: Engine
) -> None:
    name, told = f"{registry.host}/both:1", tmp_path / "metadata"
    wherry(
        "build", "--platform", BOTH, "--push", "-t", name, "--sbom", "true", "--provenance", "max",
        "--annotation", "index:org.example.a=1", "--metadata-file", str(told), str(context), check=True,
    )  # fmt: skip
    index = registry.manifest("both", "1")
    assert index["annotations"] == {"org.example.a": "1"}
    assert [each["platform"]["architecture"] for each in index["manifests"]] == ["amd64", "arm64", "unknown", "unknown"]
    kinds = {
        layer["annotations"]["in-toto.io/predicate-type"]
        for layer in registry.manifest("both", index["manifests"][2]["digest"])["layers"]
    }
    assert kinds == {"https://spdx.dev/Document", "https://slsa.dev/provenance/v0.2"}
    metadata = json.loads(told.read_text())
    assert metadata["containerimage.digest"] == registry.digest("both", "1")
    assert metadata["containerimage.config.digest"] == engine.request("GET", f"/images/{name}/json").body["Id"]


def test_what_hides_no_package(wherry: Run, context: Path, tmp_path: Path) -> None:
    """Each of these could end a scan that believes what it reads, or have it go on for ever."""
    (context / "make.py").write_text(_HOSTILE)
    subprocess.run([sys.executable, "make.py"], cwd=context, check=True)
    (context / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
    out = tmp_path / "out.tar"
    wherry("build", "--sbom", "true", "-o", f"type=tar,dest={out}", str(context), check=True)
    with tarfile.open(out) as made:
        told = made.extractfile("sbom.spdx.json")
        assert told is not None
        packages = json.load(told)["predicate"]["packages"]
    assert {each["name"] for each in packages} >= {"of-dpkg", "of-npm", "of-python"}
    wherry("builder", "prune", "--all", "--force", check=True)


_HOSTILE = """
import io, os, sqlite3, tarfile

with sqlite3.connect("rpmdb") as made:
    made.execute(
        "CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT x AS blob FROM n"
    )
with tarfile.open("root.tar", "w") as tar:

    def put(name, data=b"", kind=tarfile.REGTYPE, link=""):
        entry = tarfile.TarInfo(name)
        entry.size, entry.type, entry.linkname = len(data), kind, link
        tar.addfile(entry, io.BytesIO(data))

    put("var/lib/dpkg/status", b"Package: of-dpkg\\nVersion: 1\\n\\n" + b"\\n" * 9_000_000 + b"x: y\\n" * 1_000_000)
    put("var/lib/dpkg/status.d/pipe", kind=tarfile.FIFOTYPE)
    put("var/lib/dpkg/status.d/out", kind=tarfile.SYMTYPE, link="../../../../../../../../proc/self/environ")
    put("var/lib/rpm/rpmdb.sqlite", open("rpmdb", "rb").read())
    put("var/lib/rpm/Packages.db", b"RpmP" + b"\\xff" * 100_000)
    put("a/node_modules/deep/package.json", b"[" * 3_000_000)
    put("a/node_modules/broken/package.json", b"{\\xff")
    put("a/node_modules/loop", kind=tarfile.SYMTYPE, link=".")
    put("b/" + "d/" * 1100 + "file")
    put("c/node_modules/of-npm/package.json", b'{"name": "of-npm", "version": "1"}')
    put("c/x.dist-info/METADATA", b"Name: of-python\\nVersion: 1\\n\\n")
os.remove("rpmdb")
"""


def test_archives_and_folders(wherry: Run, context: Path, tmp_path: Path, engine: Engine) -> None:
    before = wherry("images", "--all", "--quiet", check=True).stdout
    archive = tmp_path / "archive.tar"
    layout, files = tmp_path / "layout", tmp_path / "files"
    wherry(
        "build", "--platform", BOTH, "-o", f"type=oci,dest={archive},compression=zstd", "-o", str(files),
        "-o", f"type=oci,tar=false,dest={layout}", str(context), check=True,
    )  # fmt: skip
    with tarfile.open(archive) as found:
        assert "index.json" in found.getnames()
    assert (files / "linux_arm64" / "arm64" / "file").read_text() == "content\n"
    [root] = json.loads((layout / "index.json").read_text())["manifests"]
    assert (layout / "blobs" / "sha256" / root["digest"].removeprefix("sha256:")).exists()
    assert wherry("images", "--all", "--quiet", check=True).stdout == before


def test_a_cache_in_a_registry(wherry: Run, context: Path, registry: Registry, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN date +%N >/made\n")
    ref, place = f"{registry.host}/cache:1", tmp_path / "cache"
    to = ("--cache-to", f"type=registry,ref={ref}", "--cache-to", f"type=local,dest={place}")
    wherry("build", "-t", "built:x", *to, str(context), check=True)
    before = wherry("run", "--rm", "built:x", "cat", "/made", check=True).stdout
    wherry("rmi", "built:x", check=True)
    wherry("builder", "prune", "--all", "--force", check=True)
    wherry("build", "-t", "built:x", "--cache-from", f"type=registry,ref={ref}", str(context), check=True)
    assert wherry("run", "--rm", "built:x", "cat", "/made", check=True).stdout == before
    assert json.loads((place / "index.json").read_text())["manifests"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--push"], "tag is needed when pushing to registry"),
        (["-o", "type=oci,dest=x,compression=lz4"], "unsupported compression type lz4"),
        (["--attest", "type=other"], "attestation of type other is not supported: expected provenance or sbom"),
        (["--cache-to", "type=gha"], "cache export of type gha is not supported: expected inline, registry, local"),
        (["--annotation", "x"], "invalid annotation x: expected key=value"),
    ],
)
def test_what_cannot_be(wherry: Run, context: Path, tmp_path: Path, flags: list[str], said: str) -> None:
    failed = wherry("build", *flags, str(context), cwd=tmp_path)
    assert failed.returncode != 0
    assert said in failed.stderr
