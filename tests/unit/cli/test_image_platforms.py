from typing import Any

from wherry.cli.images import draw


def manifest(architecture: str, content: int, unpacked: int, users: list[str], variant: str = "") -> dict[str, Any]:
    platform = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
    return {
        "ID": "sha256:" + architecture[-1] * 64, "Kind": "image", "Available": bool(content),
        "Size": {"Content": content, "Total": content + unpacked},
        "ImageData": {"Platform": platform, "Containers": users},
    }  # fmt: skip


IMAGE = {
    "Id": "sha256:" + "a" * 64, "RepoTags": ["debian:12", "debian:bookworm"], "Size": 100_000_000, "Containers": -1,
    "Manifests": [
        manifest("amd64", 40_000_000, 100_000_000, ["c1"]), manifest("arm", 0, 0, [], "v7"),
        {"ID": "sha256:" + "f" * 64, "Kind": "attestation", "Available": False, "Size": {"Content": 0, "Total": 0}},
    ],
}  # fmt: skip
NAMELESS = {"Id": "sha256:" + "b" * 64, "RepoTags": [], "Size": 0, "Containers": -1, "Manifests": []}


def test_platforms_of_images() -> None:
    assert (
        draw([IMAGE, NAMELESS], truncates=True, faint=False)
        == """\
IMAGE             ID             DISK USAGE   CONTENT SIZE   EXTRA
debian:12         aaaaaaaaaaaa   100MB        40MB           U
debian:bookworm
├─ linux/amd64    444444444444   140MB        40MB           U
└─ linux/arm/v7   mmmmmmmmmmmm   0B           0B
<none>            bbbbbbbbbbbb   0B           0B
"""
    )


def test_what_is_not_here_is_faint() -> None:
    lines = draw([IMAGE], truncates=False, faint=True).splitlines()
    assert [line.startswith("\x1b[2m") for line in lines] == [False, False, False, False, True]
    assert lines[4].endswith("0B\x1b[m")
    assert "sha256:" + "a" * 64 in lines[1]
