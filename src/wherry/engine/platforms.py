"""Platforms: what "linux/arm64/v8" means, which machine runs what, which image of an index that leads to, and what to
do where a program cannot run."""

import functools
import os
from collections.abc import Callable, Sequence

from wherry.common import platforms as grammar
from wherry.common import reference
from wherry.common.errors import NotFound
from wherry.linux import binfmt
from wherry.model.image import Descriptor, Platform
from wherry.storage.images import Image, Images

_QEMU = {"amd64": "x86_64", "386": "i386", "arm64": "aarch64", "loong64": "loongarch64", "mipsle": "mipsel"}


def host() -> Platform:
    """This machine's."""
    return normal(Platform(os.uname().machine, "linux"))


def parse(text: str) -> Platform:
    """Reads "linux/arm64/v8", "arm64" or "linux"; this machine's platform when empty. Raises InvalidParameter."""
    if not text:
        return host()
    system, architecture, variant = grammar.parse(text)
    return normal(Platform(architecture, system, variant))


@functools.lru_cache(256)
def normal(found: Platform) -> Platform:
    """The same in Go's words, with the variant left out where it is the usual one."""
    architecture, variant = grammar.normalize(found.architecture, found.variant)
    return Platform(architecture, found.os.lower(), variant)


def name(found: Platform) -> str:
    """ "linux/arm/v7"."""
    return "/".join(part for part in (found.os, found.architecture, found.variant) if part)


def accepted(wanted: Platform) -> list[Platform]:
    """What runs where ``wanted`` does, the best first: older variants, and the 32 bits of the same processors."""
    wanted = normal(wanted)

    def variants(architecture: str, newest: int, oldest: int) -> list[Platform]:
        return [normal(Platform(architecture, wanted.os, f"v{number}")) for number in range(newest, oldest - 1, -1)]

    number = int(wanted.variant[1:]) if wanted.variant[1:].isdigit() else 0
    if wanted.architecture == "arm":
        return variants("arm", number or 7, 5)
    if wanted.architecture == "arm64":
        return [wanted, *([] if number <= 8 else variants("arm64", number - 1, 8)), *variants("arm", 8, 5)]
    if wanted.architecture == "amd64":
        return [*variants("amd64", number or 1, 1), Platform("386", wanted.os)]
    return [wanted]


def matches(found: Platform, wanted: Platform) -> bool:
    """Whether an image for ``found`` runs where ``wanted`` is asked for."""
    return normal(found) in accepted(wanted)


def is_native(found: Platform) -> bool:
    """Whether this machine's processor runs it itself."""
    return matches(found, host())


def choose(descriptors: Sequence[Descriptor], wanted: Platform) -> Descriptor:
    """The one of an index's entries that fits best, the first of equals. Raises NotFound in Docker's words."""
    best = accepted(wanted)
    known = [(normal(each.platform), each) for each in descriptors if each.platform is not None]
    for candidate in best:
        for platform, descriptor in known:
            if platform == candidate:
                return descriptor
    for descriptor in descriptors:
        if descriptor.platform is None:
            return descriptor  # an index of one image, which does not say for what it is
    raise NotFound(f"no matching manifest for {name(normal(wanted))} in the manifest list entries")


def parse_parts(text: str) -> tuple[str, str, str]:
    """(os, architecture, variant), as ``parse`` finds them."""
    found = parse(text)
    return found.os, found.architecture, found.variant


def runnable() -> list[Platform]:
    """What containers here can be for: this machine's own first, then what is emulated."""
    own = host()
    others = (normal(Platform(each, "linux")) for each in binfmt.emulated())
    return [own, *(each for each in others if each != own)]


def of_image(image: Image) -> Platform:
    config = image.config
    return normal(Platform(config.architecture, config.os or "linux", config.variant))


def check(image: Image, image_name: str, wanted: str) -> None:
    """Raises NotFound for an image that is for another platform than ``wanted``; "" is any."""
    if not wanted:
        return
    asked, found = parse(wanted), of_image(image)
    # The 32 bits of a processor are another platform here, though it would run them: the image asked for may be there.
    if found not in accepted(asked) or found.architecture != asked.architecture:
        raise NotFound(
            f"image with reference {image_name} was found but does not match the specified platform: "
            f"wanted {name(asked)}, actual: {name(found)}"
        )


def find(images: Images, image_name: str, wanted: str) -> Image:
    """The image of that name which is for the platform ``wanted``; "" is any. Raises NotFound.

    Where a name stands for an index, every image of it can be what is wanted.
    """
    image = images.get(image_name)
    if wanted and not reference.is_image_id(image_name):
        document = images.document_of(reference.parse(image_name).with_default_tag())
        members = [images.get(each) for each in images.with_document(document)] if document else []
        asked = parse(wanted)
        image = next((each for each in members if of_image(each) == asked), image)
    check(image, image_name, wanted)
    return image


def filter_for(wanted: Sequence[str]) -> Callable[[Platform], bool] | None:
    """Whether a platform is one of those; None where none is asked for."""
    if not wanted:
        return None
    asked = [parse(text) for text in wanted]
    return lambda platform: normal(platform) in asked


def warnings(image: Image, wanted: str) -> list[str]:
    """What a user should know who has not said which platform."""
    found = of_image(image)
    if wanted or not found.architecture or is_native(found):
        return []
    return [
        f"The requested image's platform ({name(found)}) does not match the detected host platform "
        f"({name(host())}) and no specific platform was requested"
    ]


def is_32_bit(architecture: str) -> bool:
    """Whether programs of an image are to see a 32-bit kernel, as they would on a machine of that kind."""
    return (host().architecture, architecture) in (("amd64", "386"), ("arm64", "arm"))


def advice(architecture: str) -> str:
    """Why a program for another processor does not run, and how it would; "" when that is not the reason."""
    own = host()
    if not architecture or is_native(Platform(architecture, "linux")):
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
        f": the image is for linux/{architecture}, this machine is linux/{own.architecture}, and no emulator is "
        f"registered for it: install one (on Debian: apt install qemu-user-static binfmt-support, which registers "
        f"qemu-{_QEMU.get(architecture, architecture)}-static)"
    )
