"""Platforms: what "linux/arm64/v8" means, which machine runs what, and which image of an index that leads to."""

import platform as machine
from collections.abc import Sequence

from wherry.common.errors import InvalidParameter, NotFound
from wherry.model.manifests import Descriptor, Platform

_SAME_ARCHITECTURE = {
    "x86_64": "amd64", "x86-64": "amd64", "i386": "386", "i486": "386", "i586": "386", "i686": "386",
    "aarch64": "arm64", "armhf": "arm", "armel": "arm", "armv7l": "arm", "armv6l": "arm", "loongarch64": "loong64",
    "mips64el": "mips64le",
}  # fmt: skip
_IMPLIED_VARIANT = {"armel": "v6", "armv6l": "v6", "armhf": "v7", "armv7l": "v7"}
_SYSTEMS = frozenset(("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "plan9"))
_ARCHITECTURES = frozenset((
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
))  # fmt: skip


def host() -> Platform:
    """This machine's."""
    return normal(Platform(machine.machine(), "linux"))


def parse(text: str) -> Platform:
    """Of what a user writes: "linux/arm64/v8", "arm64", "linux"; this machine's when empty. Raises InvalidParameter."""
    if not text:
        return host()
    parts = text.strip().lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(
        part and part.replace("_", "a").replace("-", "a").isalnum() for part in parts
    ):
        raise InvalidParameter(
            f'"{text}" is an invalid component of "{text}": platform specifier component must match '
            '"^[A-Za-z0-9_.-]+$": specifier formatted as <os>[/<arch>[/<variant>]]'
        )
    if len(parts) == 1:
        if parts[0] in _SYSTEMS:
            return Platform(host().architecture, parts[0])
        found = normal(Platform(parts[0], "linux"))
        if found.architecture not in _ARCHITECTURES:
            raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')
        return found
    return normal(Platform(parts[1], parts[0], parts[2] if len(parts) == 3 else ""))


def normal(found: Platform) -> Platform:
    """The same in the usual words, with the variant left out where it is the usual one."""
    architecture = found.architecture.lower()
    variant = found.variant.lower() or _IMPLIED_VARIANT.get(architecture, "")
    architecture = _SAME_ARCHITECTURE.get(architecture, architecture)
    if variant and variant.isdigit():
        variant = f"v{variant}"
    if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    if architecture == "arm" and not variant:
        variant = "v7"
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
