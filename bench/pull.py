"""Pulls from a registry on this machine: Debian's docker-registry, on the loopback of each engine's own namespace.

The image has ten layers with 3,000 files and 100 MB each, half of which is noise, as in a real one; its second tag is
another image of the same layers. The registry's storage is made once, and thrown away at the end.
"""

import atexit
import functools
import hashlib
import io
import json
import random
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.engines import Client, find_program

PORT = 5000
IMAGE, ANOTHER = (f"127.0.0.1:{PORT}/bench/ten-layers:{tag}" for tag in ("1", "2"))
LAYERS, FILES, LAYER_BYTES = 10, 3_000, 100_000_000
START_SECONDS = 10

_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def pull(client: Client, image: str = IMAGE) -> float:
    took = client.time("pull", image)
    client.run("rmi", image)
    return took


def pull_upon_the_same_layers(client: Client) -> float:
    return pull(client, ANOTHER)


def ask_for_the_same_layers(client: Client) -> float:
    """The same without a client, whose start takes longer than such a pull."""
    repository, _, tag = ANOTHER.rpartition(":")
    took = client.time_request("POST", f"/images/create?fromImage={repository}&tag={tag}")
    client.run("rmi", ANOTHER)
    return took


def pull_again(client: Client) -> float:
    return client.time("pull", IMAGE)


@contextmanager
def registry(client: Client) -> Iterator[None]:
    """The registry, within the engine's reach."""
    with _serving(["nsenter", "--net", "--target", str(client.engine.pid)]):
        yield


@contextmanager
def pulled(client: Client) -> Iterator[None]:
    with registry(client):
        client.run("pull", IMAGE)
        yield
        client.run("rmi", IMAGE)


@contextmanager
def _serving(enter: list[str]) -> Iterator[None]:
    """``enter`` is the command that leads into the namespace."""
    storage = _storage()
    probe = [*enter, "python3", "-c", f"import socket; socket.create_connection(('127.0.0.1', {PORT}), 1)"]
    process = subprocess.Popen(
        [*enter, find_program("docker-registry"), "serve", str(storage / "config.yml")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("docker-registry did not start: is Debian's package docker-registry installed?")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@functools.cache
def _storage() -> Path:
    """A registry's storage with the image in it."""
    root = Path(tempfile.mkdtemp(prefix="wherry-bench-registry-", dir="/var/tmp"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    (root / "config.yml").write_text(_CONFIG.format(root=root / "data", port=PORT))
    blobs = [_store(root, compressed) for compressed in _layers()]
    for tag in ("1", "2"):
        _store_image(root, tag, blobs)
    return root


def _store_image(root: Path, tag: str, layers: list[tuple[str, int, str]]) -> None:
    config = _store_document(root, _configuration(tag, [diff_id for _, _, diff_id in layers]))
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **config},
        "layers": [
            {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": digest, "size": size}
            for digest, size, _ in layers
        ],
    }
    repository = root / "data/docker/registry/v2/repositories/bench/ten-layers"
    for each in [str(config["digest"]), *(digest for digest, _, _ in layers)]:
        _link(repository / "_layers" / each.replace(":", "/"), each)
    digest = str(_store_document(root, manifest)["digest"])
    _link(repository / "_manifests/revisions" / digest.replace(":", "/"), digest)
    _link(repository / f"_manifests/tags/{tag}/current", digest)
    _link(repository / f"_manifests/tags/{tag}/index" / digest.replace(":", "/"), digest)


def _link(directory: Path, digest: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "link").write_text(digest)


def _store(root: Path, layer: tuple[bytes, str]) -> tuple[str, int, str]:
    """(digest, size, diff id) of a layer that is in the storage now."""
    data, diff_id = layer
    digest = hashlib.sha256(data).hexdigest()
    place = root / "data/docker/registry/v2/blobs/sha256" / digest[:2] / digest
    place.mkdir(parents=True, exist_ok=True)
    (place / "data").write_bytes(data)
    return f"sha256:{digest}", len(data), diff_id


def _store_document(root: Path, document: object) -> dict[str, object]:
    digest, size, _ = _store(root, (json.dumps(document).encode(), ""))
    return {"digest": digest, "size": size}


def _layers() -> Iterator[tuple[bytes, str]]:
    """Each compressed, with the digest of the plain tar."""
    generator = random.Random(1)
    size = LAYER_BYTES // FILES
    for number in range(LAYERS):
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            for file in range(FILES):
                entry = tarfile.TarInfo(f"layer{number}/directory{file % 50}/file{file}")
                entry.size, entry.mode, entry.mtime = size, 0o644, 1_700_000_000
                content = generator.randbytes(size // 2) + b"wherry carries cargo\n" * (size // 42 + 1)
                tar.addfile(entry, io.BytesIO(content[:size]))
        data = plain.getvalue()
        yield zlib.compress(data, 1, 31), f"sha256:{hashlib.sha256(data).hexdigest()}"


def _configuration(tag: str, diff_ids: list[str]) -> dict[str, object]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["true"], "Labels": {"tag": tag}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"layer {number}"} for number in range(len(diff_ids))],
    }
