"""Platforms: "linux/arm64/v8", and whether an image is for one."""

import platform

from wherry.engine.system import ARCHITECTURES
from wherry.model.errors import InvalidParameter, NotFound
from wherry.storage.images import Image


def parse(text: str) -> tuple[str, str, str]:
    """(os, architecture, variant) of "linux/arm64/v8"; this machine's when empty. Raises InvalidParameter."""
    own = ARCHITECTURES.get(platform.machine(), platform.machine())
    if not text:
        return "linux", own, ""
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(parts):
        raise InvalidParameter(f'"{text}" is an invalid OS and architecture, use "linux/amd64" or the like')
    if len(parts) == 1:
        return (parts[0], own, "") if parts[0] in ("linux", "windows") else ("linux", parts[0], "")
    return parts[0], ARCHITECTURES.get(parts[1], parts[1]), parts[2] if len(parts) == 3 else ""


def check(image: Image, name: str, wanted: str) -> None:
    """Raises NotFound for an image, found by ``name``, that is for another platform than ``wanted``; "" is any."""
    if not wanted:
        return
    os_name, architecture, variant = parse(wanted)
    config = image.config
    if (config.os, config.architecture) != (os_name, architecture) or (variant and config.variant != variant):
        raise NotFound(
            f"image with reference {name} was found but does not match the specified platform: "
            f"wanted {wanted}, actual: {config.os}/{config.architecture}"
        )
