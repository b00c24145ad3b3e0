"""What is said of images for other machines."""

import pytest

from wherry.common.errors import NotFound
from wherry.common.platforms import host_architecture
from wherry.engine import platforms
from wherry.linux import binfmt
from wherry.linux.binfmt import Emulator
from wherry.model.image import ImageConfig, Platform
from wherry.storage.images import Image

OTHER = "s390x" if host_architecture() != "s390x" else "amd64"


def image(architecture: str, variant: str = "") -> Image:
    config = ImageConfig(architecture=architecture, os="linux", variant=variant)
    return Image(id="sha256:1", config=config, parent="", chain_id="", size=0, tagged=0)


def test_whether_it_is_the_one_that_is_asked_for() -> None:
    platforms.check(image("arm64", "v8"), "app", "linux/arm64")
    platforms.check(image("arm64"), "app", "")
    for found, wanted in (("amd64", "linux/386"), ("386", "linux/amd64"), ("arm64", "linux/s390x")):
        with pytest.raises(NotFound, match=f"wanted {wanted}, actual: linux/{found}"):
            platforms.check(image(found), "app", wanted)


def test_the_filter() -> None:
    assert platforms.filter_for([]) is None
    chosen = platforms.filter_for(["linux/arm64"])
    assert chosen is not None and chosen(Platform("arm64", "linux", "v8")) and not chosen(Platform("amd64", "linux"))
    several = platforms.filter_for(["linux/arm64", "linux/amd64"])
    assert several is not None and several(Platform("amd64", "linux")) and not several(Platform("386", "linux"))


def test_who_does_not_say_which_is_warned() -> None:
    assert (
        platforms.warnings(image(host_architecture()), "") == platforms.warnings(image(OTHER), f"linux/{OTHER}") == []
    )
    (warning,) = platforms.warnings(image(OTHER), "")
    assert f"The requested image's platform (linux/{OTHER}) does not match" in warning


def test_why_it_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: Emulator | None = None
    monkeypatch.setattr(binfmt, "emulator", lambda architecture: registered)
    assert platforms.advice(host_architecture()) == platforms.advice("") == ""
    assert "no emulator is registered for it: install one" in platforms.advice(OTHER)
    registered = Emulator("/usr/bin/qemu", 0, b"", b"", kept_open=False)
    assert "/usr/bin/qemu is registered without the flag F" in platforms.advice(OTHER)
    registered = registered._replace(kept_open=True)
    assert platforms.advice(OTHER) == ""
