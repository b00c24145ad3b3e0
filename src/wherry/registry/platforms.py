"""Platforms: what "linux/arm64/v8" means, which machine runs what, and which image of an index that leads to."""

import os
from collections.abc import Sequence

from wherry.common import platforms
from wherry.common.errors import NotFound
from wherry.model.manifests import Descriptor, Platform


def host() -> Platform:
    """This machine's."""
    return normal(Platform(os.uname().machine, "linux"))


def parse(text: str) -> Platform:
    """Of what a user writes: "linux/arm64/v8", "arm64", "linux"; this machine's when empty. Raises InvalidParameter."""
    if not text:
        return host()
    system, architecture, variant = platforms.parse(text)
    return normal(Platform(architecture, system, variant))


def normal(found: Platform) -> Platform:
    """The same in Go's words, with the variant left out where it is the usual one."""
    architecture, variant = platforms.normalize(found.architecture, found.variant)
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
