"""--platform: "linux/arm64/v8" as the API wants it. What a word means beyond that, the engine decides."""

from __future__ import annotations

import os

from wherry.cli.session import CommandError
from wherry.cli.values import quoted

SYSTEMS = frozenset(("darwin", "freebsd", "linux", "netbsd", "openbsd", "plan9", "solaris", "windows"))
ARCHITECTURES = frozenset((
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm", "aarch64", "armel", "armhf", "i386", "x86-64", "x86_64",
))  # fmt: skip
COMPONENT = 'platform specifier component must match "^[A-Za-z0-9_.-]+$"'
SYSTEM = r'OSAndVersion specifier component must match "^([A-Za-z0-9_-]+)(?:\\(([A-Za-z0-9_.-]*)\\))?$"'
LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


def parse_platform(text: str, failure: str = "") -> dict[str, str]:
    """{"os": "linux", "architecture": "arm", "variant": "v7"} of "linux/arm/v7"; {} of nothing.

    Raises CommandError, in docker's words after `failure`.
    """
    if not text:
        return {}
    parts = text.lower().split("/")
    for number, part in enumerate(parts):
        if not part or not LETTERS.issuperset(part):
            kind, rule = ("component", COMPONENT) if number else ("OS component", SYSTEM)
            raise CommandError(
                f"{failure}{quoted(part)} is an invalid {kind} of {quoted(text)}: {rule}: invalid argument"
            )
    if len(parts) > 3:
        raise CommandError(f"{failure}{quoted(text)}: cannot parse platform specifier: invalid argument")
    if len(parts) == 1:
        if parts[0] in SYSTEMS:
            parts.append(os.uname().machine)
        elif parts[0] in ARCHITECTURES:
            parts.insert(0, "linux")
        else:
            raise CommandError(f"{failure}{quoted(text)}: unknown operating system or architecture: invalid argument")
    return dict(zip(("os", "architecture", "variant"), parts, strict=False))
