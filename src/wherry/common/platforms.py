"""Platforms as users write them: "linux/arm64/v8", "arm64", "linux". The words and the messages are containerd's."""

from __future__ import annotations

import os

from wherry.common.errors import InvalidParameter
from wherry.common.values import quoted

# What uname and users say, and what Go does.
_GO_ARCHITECTURES = {
    "x86_64": "amd64", "x86-64": "amd64", "i386": "386", "i486": "386", "i586": "386", "i686": "386",
    "aarch64": "arm64", "armhf": "arm", "armel": "arm", "armv7l": "arm", "armv6l": "arm", "loongarch64": "loong64",
    "mips64el": "mips64le",
}  # fmt: skip
_IMPLIED_VARIANTS = {"armel": "v6", "armv6l": "v6", "armhf": "v7", "armv7l": "v7"}
_SYSTEMS = frozenset(("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "plan9"))
_ARCHITECTURES = frozenset((
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
))  # fmt: skip
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_COMPONENT_RULE = 'platform specifier component must match "^[A-Za-z0-9_.-]+$"'
_SYSTEM_RULE = r'OSAndVersion specifier component must match "^([A-Za-z0-9_-]+)(?:\\(([A-Za-z0-9_.-]*)\\))?$"'


def parse(text: str, own: str = "") -> tuple[str, str, str]:
    """The system, the architecture and the variant ("" where not said) of a text that is not empty.

    A lone system is that of ``own`` architecture, this machine's where it is not given. Raises InvalidParameter.
    """
    parts = text.lower().split("/")
    for number, part in enumerate(parts):
        if not part or not _LETTERS.issuperset(part):
            kind, rule = ("component", _COMPONENT_RULE) if number else ("OS component", _SYSTEM_RULE)
            raise InvalidParameter(f"{quoted(part)} is an invalid {kind} of {quoted(text)}: {rule}: invalid argument")
    if len(parts) > 3:
        raise InvalidParameter(f"{quoted(text)}: cannot parse platform specifier: invalid argument")
    if len(parts) == 1:
        if parts[0] in _SYSTEMS:
            parts.append(own or os.uname().machine)
        elif parts[0] in _ARCHITECTURES or parts[0] in _GO_ARCHITECTURES:
            parts.insert(0, "linux")
        else:
            raise InvalidParameter(f"{quoted(text)}: unknown operating system or architecture: invalid argument")
    system, architecture, variant = [*parts, ""][:3]
    return system, architecture, variant


def parse_json(text: str, failure: str = "") -> dict[str, str]:
    """What the API takes for a text: {"os": "linux", "architecture": "arm", "variant": "v7"}; {} of an empty one.

    Raises InvalidParameter, whose message begins with ``failure``.
    """
    if not text:
        return {}
    try:
        words = parse(text)
    except InvalidParameter as error:
        raise InvalidParameter(failure + error.message) from None
    return {name: word for name, word in zip(("os", "architecture", "variant"), words, strict=True) if word}


def host_architecture() -> str:
    """This machine's."""
    return normalize(os.uname().machine)[0]


def normalize(architecture: str, variant: str = "") -> tuple[str, str]:
    """An architecture and its variant in Go's words, the variant left out where it is the usual one."""
    architecture = architecture.lower()
    variant = variant.lower() or _IMPLIED_VARIANTS.get(architecture, "")
    architecture = _GO_ARCHITECTURES.get(architecture, architecture)
    if variant.isdigit():
        variant = f"v{variant}"
    if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    if architecture == "arm" and not variant:
        variant = "v7"
    return architecture, variant
