"""Wrap a root file system's tar into an image archive, as ``docker save`` writes it and every engine can ``load`` it.

``python scripts/image_archive.py ROOTFS.tar ARCHIVE.tar NAME:TAG COMMAND…``
"""

import hashlib
import io
import json
import os
import platform
import sys
import tarfile
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def main(rootfs: Path, archive: Path, name: str, command: list[str]) -> None:
    with rootfs.open("rb") as layer:
        diff_id = hashlib.file_digest(layer, "sha256").hexdigest()
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": command, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": f"from {rootfs.name}"}],
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{diff_id}/layer.tar"]}]

    part = archive.with_name(archive.name + ".part")
    with tarfile.open(part, "w") as tar, rootfs.open("rb") as layer:
        member = tarfile.TarInfo(f"{diff_id}/layer.tar")
        member.size = os.fstat(layer.fileno()).st_size
        tar.addfile(member, layer)
        for path, data in ((config_name, config), ("manifest.json", json.dumps(manifest).encode())):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    part.replace(archive)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
