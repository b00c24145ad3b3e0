"""Images for other platforms: which one of an index is taken, and how it runs."""

import json
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import emulation
from tests.support import registry as registries
from tests.support.api_definition import ApiDefinition
from tests.support.engine import CACHE, Engine
from tests.support.registry import Registry, tar_of

Run = Callable[..., subprocess.CompletedProcess[str]]


def oci_archive(name: str, architectures: tuple[str, ...]) -> bytes:
    """An OCI layout of an index with a small image for each of these."""
    blobs: dict[str, bytes] = {}

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = registries.digest_of(data)
        blobs[f"blobs/sha256/{digest.partition(':')[2]}"] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    entries = []
    for architecture in architectures:
        layer = tar_of({"architecture": architecture.encode()})
        platform = {"architecture": architecture, "os": "linux"}
        config = {**platform, "rootfs": {"type": "layers", "diff_ids": [registries.digest_of(layer)]}}
        manifest = {
            "schemaVersion": 2,
            "mediaType": registries.OCI_MANIFEST,
            "config": put(json.dumps(config).encode(), registries.OCI_CONFIG),
            "layers": [put(layer, registries.OCI_LAYER)],
        }
        entries.append(put(json.dumps(manifest).encode(), registries.OCI_MANIFEST) | {"platform": platform})
    index = put(json.dumps({"schemaVersion": 2, "manifests": entries}).encode(), registries.OCI_INDEX)
    index["annotations"] = {"org.opencontainers.image.ref.name": name}
    top = json.dumps({"schemaVersion": 2, "manifests": [index]}).encode()
    return tar_of({"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": top, **blobs})


class TestIndex:
    @pytest.fixture
    def index(self, registry: Registry, busybox_tar: bytes, wherry: Run) -> Iterator[str]:
        """The digest of index:1; a file in each of its images says for what it is."""
        entries = []
        for architecture in ("386", "amd64", "arm64"):
            mark = tar_of({"architecture": architecture.encode()})
            entries.append(
                registry.put_image(
                    "index",
                    f"only-{architecture}",
                    [(busybox_tar, registries.OCI_LAYER), (mark, registries.OCI_LAYER)],
                    platform={"architecture": architecture, "os": "linux"},
                )
            )
        document = {"schemaVersion": 2, "mediaType": registries.OCI_INDEX, "manifests": entries}
        made = registry.put_manifest("index", "1", document)
        yield str(made["digest"])
        wherry("image", "prune", "--force", check=True)  # images that lost their name to one for another platform

    def test_of_this_machine(self, registry: Registry, wherry: Run, index: str) -> None:
        name = f"{registry.host}/index:1"
        assert f"Digest: {index}" in wherry("pull", name, check=True).stdout
        row = wherry("images", name, check=True).stdout.splitlines()[1]
        assert " N/A " in row, "it does not say when it was made"
        assert wherry("run", "--rm", name, "cat", "/architecture", check=True).stdout == "amd64"
        pinned = f"{registry.host}/index@{index}"
        assert wherry("run", "--rm", pinned, "cat", "/architecture", check=True).stdout == "amd64"
        wherry("rmi", "-f", name, check=True)

    def test_32_bits(self, registry: Registry, wherry: Run, index: str) -> None:
        name = f"{registry.host}/index:1"
        done = wherry("run", "--rm", "--platform", "linux/386", name, "sh", "-c", "cat /architecture; busybox uname -m")
        assert done.stdout == "386i686\n", done.stderr
        # The other image of the same name is not taken for it.
        done = wherry(
            "run", "--rm", "--platform", "linux/amd64", name, "sh", "-c", "cat /architecture; busybox uname -m"
        )
        assert done.stdout == "amd64x86_64\n", done.stderr
        wherry("rmi", "-f", name, check=True)

    def test_tree_of_platforms(self, registry: Registry, engine: Engine, wherry: Run, docker: Run, index: str) -> None:
        name = f"{registry.host}/index:1"
        wherry("pull", name, check=True)
        [image] = [
            each for each in engine.request("GET", "/v1.51/images/json?manifests=1").body if name in each["RepoTags"]
        ]
        there = {each["ImageData"]["Platform"]["architecture"]: each["Available"] for each in image["Manifests"]}
        assert there["amd64"]
        assert not there["arm64"]
        assert image["Size"] == sum(each["Size"]["Total"] for each in image["Manifests"]) > 0
        assert "linux/arm64" in docker("image", "ls", "--tree", name, check=True).stdout
        shown = wherry("image", "ls", "--tree", name, check=True).stdout.splitlines()
        assert [line.split()[:2] for line in shown[1:]] == [
            [name, image["Id"].removeprefix("sha256:")[:12]], ["├─", "linux/386"], ["├─", "linux/amd64"],
            ["└─", "linux/arm64"],
        ]  # fmt: skip
        assert "cannot be used together" in wherry("images", "--tree", "--quiet").stderr
        wherry("rmi", "-f", name, check=True)

    def test_no_such_platform(self, registry: Registry, engine: Engine, index: str) -> None:
        query = f"fromImage={registry.host}/index&tag=1&platform=linux/s390x"
        answer = engine.request("POST", f"/v1.51/images/create?{query}")
        assert answer.status == 404
        assert answer.body["message"] == "no matching manifest for linux/s390x in the manifest list entries"

    @pytest.mark.parametrize("client", ["wherry", "docker"])
    def test_one_out_of_an_archive(self, engine: Engine, tmp_path: Path, client: str) -> None:
        run, archive, name = getattr(engine, client), tmp_path / "archive.tar", "several:1"
        archive.write_bytes(oci_archive(name, ("386", "amd64", "arm64")))
        refused = run("load", "--platform", "linux/s390x", "--input", str(archive))
        assert "no image for the platform that was asked for" in refused.stderr
        for platform, architecture in (("linux/386", "386"), ("linux/arm64", "arm64"), ("", "amd64")):
            run("load", "--platform", platform, "--input", str(archive), check=True)
            found = run("image", "inspect", "--format", "{{.Architecture}}", name, check=True).stdout
            assert found == f"{architecture}\n"
            run("rmi", name, check=True)
        archive.write_bytes(oci_archive(name, ("arm64",)))
        run("load", "--input", str(archive), check=True)
        run("rmi", "--platform", "linux/arm64", name, check=True)

    def test_distribution_and_manifest_inspect(
        self, registry: Registry, engine: Engine, wherry: Run, docker: Run, index: str, api_definition: ApiDefinition
    ) -> None:
        answer = engine.request("GET", f"/v1.51/distribution/{registry.host}/index:1/json")
        assert answer.status == 200
        assert answer.body["Descriptor"]["digest"] == index
        assert {each["architecture"] for each in answer.body["Platforms"]} == {"386", "amd64", "arm64"}
        api_definition.check("GET", "/distribution/{name}/json", 200, answer.body)
        inspect = ["manifest", "inspect", "--insecure"]
        for words in (
            [f"{registry.host}/index:1"],
            ["-v", f"{registry.host}/index:1"],
            [f"{registry.host}/index@{index}"],
        ):
            ours, dockers = (json.loads(run(*inspect, *words, check=True).stdout) for run in (wherry, docker))
            assert ours == dockers
        document = {
            "schemaVersion": 2, "mediaType": registries.OCI_MANIFEST, "layers": [],
            "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", **registry.put_blob("index", b"{}")},
        }  # fmt: skip
        registry.put_manifest("index", "artifact", document)
        for run in (docker, wherry):  # what is no image can be looked at all the same
            shown = json.loads(run(*inspect, f"{registry.host}/index:artifact", check=True).stdout)
            assert shown["config"]["mediaType"] == document["config"]["mediaType"]
        answer = engine.request("GET", f"/v1.51/distribution/{registry.host}/index:artifact/json")
        assert (answer.status, answer.body["Platforms"]) == (200, [])
        missing = [run(*inspect, f"{registry.host}/index:2").stderr for run in (docker, wherry)]
        assert missing == [f"no such manifest: {registry.host}/index:2\n"] * 2


class TestDebian:
    """Debian for another processor, of which there is a shell and what it needs."""

    @pytest.fixture(scope="class")
    @classmethod
    def debian(cls, registry: Registry) -> str:
        """The name of an index with the images that this machine could make."""
        entries = []
        for architecture, name in (("386", "i386"), ("arm64", "arm64")):
            for tar in sorted((CACHE / name).glob("[du]*-*.tar")):
                platform = {"architecture": architecture, "os": "linux"}
                layers = [(tar.read_bytes(), registries.OCI_LAYER)]
                entries.append(registry.put_image("debian", name, layers, platform=platform))
        if len(entries) < 2:
            pytest.skip("no Debian for i386 and arm64: scripts/base_image.sh could not make them")
        document = {"schemaVersion": 2, "mediaType": registries.OCI_INDEX, "manifests": entries}
        registry.put_manifest("debian", "1", document)
        return f"{registry.host}/debian:1"

    @pytest.fixture(scope="class")
    @classmethod
    def _emulated(cls) -> Iterator[None]:
        interpreter = emulation.find()
        if interpreter is None or os.geteuid() != 0:
            pytest.skip("no emulator: needs root, and Debian's package qemu-user-static")
        try:
            with emulation.registered(interpreter, "F"):
                yield
        except OSError as error:
            pytest.skip(f"no emulator can be registered here: {error}")

    SCRIPT = "uname -m; dpkg --print-architecture; getconf LONG_BIT; cat /proc/self/stat | wc -l"

    def test_32_bits(self, debian: str, wherry: Run) -> None:
        done = wherry("run", "--rm", "--platform", "linux/386", debian, "sh", "-c", self.SCRIPT)
        assert done.stdout.split() == ["i686", "i386", "32", "1"], done.stderr
        wherry("rmi", debian, check=True)

    def test_32_bits_by_docker(self, debian: str, docker: Run) -> None:
        """Who asks for a 32-bit image gets one in every part of its life."""
        docker("create", "--name", "small", "--platform", "386", debian, "sleep", "1000", check=True)
        docker("start", "small", check=True)
        assert docker("exec", "small", "uname", "-m", check=True).stdout == "i686\n"
        assert docker("inspect", "-f", "{{.Architecture}}", debian, check=True).stdout == "386\n"
        docker("rm", "-f", "small", check=True)
        docker("rmi", debian, check=True)

    @pytest.mark.usefixtures("_emulated")
    def test_arm64_by_an_emulator(self, debian: str, wherry: Run) -> None:
        done = wherry("run", "--rm", "--platform", "linux/arm64", debian, "sh", "-c", self.SCRIPT)
        assert done.stdout.split() == ["aarch64", "arm64", "64", "1"], done.stderr
        unasked = wherry("run", "--rm", debian, "uname", "-m")
        assert unasked.stdout == "aarch64\n", unasked.stderr
        assert "does not match the detected host platform" in unasked.stderr
        wherry("rmi", debian, check=True)

    @pytest.mark.usefixtures("_emulated")
    def test_a_build_for_arm64(self, debian: str, wherry: Run, tmp_path: Path) -> None:
        (tmp_path / "Dockerfile").write_text(f"FROM {debian}\nRUN uname -m >/made\nCMD cat /made\n")
        by_default = {"DOCKER_DEFAULT_PLATFORM": "linux/arm64"}
        wherry("build", "-t", "emulated", str(tmp_path), env=by_default, check=True)
        assert wherry("run", "--rm", "emulated", env=by_default, check=True).stdout == "aarch64\n"
        wherry("rmi", "emulated", debian, check=True)

    @pytest.mark.usefixtures("_emulated")
    def test_a_build_for_both(self, debian: str, wherry: Run, tmp_path: Path, registry: Registry) -> None:
        """Each in turn, of which the second finds what is the same for both; one name for them, also where it is
        pushed."""
        (tmp_path / "Dockerfile").write_text(
            f"FROM scratch AS same\nCOPY Dockerfile /same\nFROM {debian}\nCOPY --from=same /same /same\n"
            "RUN uname -m >/made\nCMD cat /made\n"
        )
        name = f"{registry.host}/both:1"
        platforms = ("linux/386", "linux/arm64")
        shown = wherry("build", "--platform", ",".join(platforms), "-t", name, str(tmp_path), check=True).stderr
        assert "[linux/arm64 same 7/12]" in shown
        for platform, machine in zip(platforms, ("i686", "aarch64"), strict=True):
            assert wherry("run", "--rm", "--platform", platform, name, check=True).stdout == f"{machine}\n"
        wherry("push", name, check=True)
        pushed = registry.manifest("both", "1")["manifests"]
        assert [each["platform"]["architecture"] for each in pushed] == ["386", "arm64"]
        wherry("rmi", name, debian, check=True)


class TestWithoutEmulator:
    def test_it_says_how_to_get_one(self, registry: Registry, wherry: Run, tmp_path: Path) -> None:
        """A program for a processor that nothing emulates, whatever is registered on this machine."""
        head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 0x4157, 1) + bytes(100)
        platform = {"architecture": "wasm", "os": "linux"}
        layers = [(tar_of({"hello": head}), registries.OCI_LAYER)]
        registry.put_image("strange", "1", layers, platform=platform, config={"Cmd": ["/hello"]})
        name = f"{registry.host}/strange:1"
        done = wherry("run", "--rm", "--platform", "linux/wasm", name)
        assert done.returncode not in (0, 1)
        assert "exec format error" in done.stderr
        assert "the image is for linux/wasm, this machine is linux/amd64" in done.stderr
        assert "apt install qemu-user-static" in done.stderr
        (tmp_path / "Dockerfile").write_text(f'FROM {name}\nRUN ["/hello"]\n')
        failed = wherry("build", "--platform", "linux/wasm", str(tmp_path))
        assert failed.returncode != 0
        assert "the image is for linux/wasm, this machine is linux/amd64" in failed.stderr
        (tmp_path / "Dockerfile").write_text(
            f'FROM scratch AS amd64\nLABEL a=b\nFROM {name} AS wasm\nRUN ["/hello"]\nFROM $TARGETARCH\n'
        )
        before = wherry("images", "--all", "--quiet", check=True).stdout
        failed = wherry("build", "--platform", "linux/amd64,linux/wasm", str(tmp_path))
        assert "the image is for linux/wasm, this machine is linux/amd64" in failed.stderr
        assert wherry("images", "--all", "--quiet", check=True).stdout == before
        wherry("rmi", name, check=True)
