"""`image ls --tree`: the images, and below each the platforms of the index it came by, and which are here."""

from __future__ import annotations

import os
import sys

from wherry.cli import terminal
from wherry.cli.formatting import human_size, short_id, table
from wherry.cli.images import NONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TITLES = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
IN_USE = "U"
FAINT, PLAIN = "\x1b[2m", "\x1b[m"


def show(images: list[dict[str, Any]], *, truncates: bool) -> None:
    """Prints images of GET /images/json?manifests=1. On a terminal, what is not here is faint."""
    faint = terminal.is_terminal(terminal.STDOUT) and not os.environ.get("NO_COLOR")
    sys.stdout.write(draw(images, truncates=truncates, faint=faint))


def draw(images: list[dict[str, Any]], *, truncates: bool, faint: bool) -> str:
    lines = ["\t".join(TITLES)]
    away: list[int] = []
    for image in images:
        found = [each for each in image.get("Manifests") or () if each.get("Kind") == "image"]
        content = sum(each["Size"]["Content"] for each in found)
        used = (image.get("Containers") or 0) > 0 or any(each["ImageData"]["Containers"] for each in found)
        name, *others = image.get("RepoTags") or image.get("RepoDigests") or [NONE]
        lines.append(_line(name, image["Id"], image["Size"], content, used, truncates))
        lines += [f"{other}\t\t\t\t" for other in others]
        for each in found:
            if not each["Available"]:
                away.append(len(lines))
            stem = "└─ " if each is found[-1] else "├─ "
            size, data = each["Size"], each["ImageData"]
            name = stem + _platform(data["Platform"])
            lines.append(_line(name, each["ID"], size["Total"], size["Content"], bool(data["Containers"]), truncates))
    drawn = [line.rstrip() for line in table("\n".join(lines)).split("\n")]
    for number in away if faint else ():
        drawn[number] = FAINT + drawn[number] + PLAIN
    return "\n".join(drawn) + "\n"


def _line(name: str, identity: str, size: int, content: int, used: bool, truncates: bool) -> str:
    shown = short_id(identity) if truncates else identity
    return "\t".join((name, shown, human_size(size, 3), human_size(content, 3), IN_USE if used else ""))


def _platform(found: dict[str, str]) -> str:
    """linux/arm/v7"""
    return "/".join(found[key] for key in ("os", "architecture", "variant") if found.get(key))
