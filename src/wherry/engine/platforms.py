"""Platforms of images: whether one is what was asked for, how it runs on this machine, and what to do if it cannot."""

from collections.abc import Callable, Sequence

from wherry.common import reference
from wherry.common.errors import NotFound
from wherry.linux import binfmt
from wherry.model.manifests import Platform
from wherry.registry import platforms
from wherry.storage.images import Image, Images

_QEMU = {"amd64": "x86_64", "386": "i386", "arm64": "aarch64", "loong64": "loongarch64", "mipsle": "mipsel"}


def parse(text: str) -> tuple[str, str, str]:
    """(os, architecture, variant) of "linux/arm64/v8"; this machine's when empty. Raises InvalidParameter."""
    found = platforms.parse(text)
    return found.os, found.architecture, found.variant


def runnable() -> list[Platform]:
    """What containers here can be for: this machine's own first, then what is emulated."""
    own = platforms.host()
    others = (platforms.normal(Platform(name, "linux")) for name in binfmt.emulated())
    return [own, *(each for each in others if each != own)]


def of_image(image: Image) -> Platform:
    config = image.config
    return platforms.normal(Platform(config.architecture, config.os or "linux", config.variant))


def check(image: Image, name: str, wanted: str) -> None:
    """Raises NotFound for an image, found by ``name``, that is for another platform than ``wanted``; "" is any."""
    if not wanted:
        return
    asked, found = platforms.parse(wanted), of_image(image)
    # The 32 bits of a processor are another platform here, though it would run them: the image asked for may be there.
    if found not in platforms.accepted(asked) or found.architecture != asked.architecture:
        raise NotFound(
            f"image with reference {name} was found but does not match the specified platform: "
            f"wanted {platforms.name(asked)}, actual: {platforms.name(found)}"
        )


def find(images: Images, name: str, wanted: str) -> Image:
    """The image of that name which is for the platform ``wanted``; "" is any. Raises NotFound.

    Where a name stands for an index, every image of it can be what is wanted.
    """
    image = images.get(name)
    if wanted and not reference.is_image_id(name):
        document = images.document_of(reference.parse(name).with_default_tag())
        members = [images.get(each) for each in images.with_document(document)] if document else []
        asked = platforms.parse(wanted)
        image = next((each for each in members if of_image(each) == asked), image)
    check(image, name, wanted)
    return image


def filter_for(wanted: Sequence[str]) -> Callable[[Platform], bool] | None:
    """Whether a platform is one of those; None where none is asked for."""
    if not wanted:
        return None
    asked = [platforms.parse(text) for text in wanted]
    return lambda platform: platforms.normal(platform) in asked


def warnings(image: Image, wanted: str) -> list[str]:
    """What a user should know who has not said which platform."""
    found = of_image(image)
    if wanted or not found.architecture or platforms.is_native(found):
        return []
    return [
        f"The requested image's platform ({platforms.name(found)}) does not match the detected host platform "
        f"({platforms.name(platforms.host())}) and no specific platform was requested"
    ]


def is_32_bit(architecture: str) -> bool:
    """Whether programs of an image are to see a 32-bit kernel, as they would on a machine of that kind."""
    return (platforms.host().architecture, architecture) in (("amd64", "386"), ("arm64", "arm"))


def advice(architecture: str) -> str:
    """Why a program for another processor does not run, and how it would; "" when that is not the reason."""
    host = platforms.host()
    if not architecture or platforms.is_native(Platform(architecture, "linux")):
        return ""
    emulator = binfmt.emulator(architecture)
    if emulator is not None and emulator.kept_open:
        return ""
    if emulator is not None:
        return (
            f": the image is for linux/{architecture}, and its emulator {emulator.interpreter} is registered without "
            "the flag F, so that it is looked for inside the container: register it again with that flag"
        )
    return (
        f": the image is for linux/{architecture}, this machine is linux/{host.architecture}, and no emulator is "
        f"registered for it: install one (on Debian: apt install qemu-user-static binfmt-support, which registers "
        f"qemu-{_QEMU.get(architecture, architecture)}-static)"
    )
