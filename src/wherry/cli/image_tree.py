"""`image tree`: the images as the layers they share, each layer once, with its size and the size of what ends at it."""

from __future__ import annotations

import os
import sys

from wherry.cli import terminal
from wherry.cli.session import Session, command
from wherry.cli.table import ellipsis, short_id, table
from wherry.client.client import quote
from wherry.common import flags
from wherry.common.flags import Options
from wherry.common.sizes import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.client.blocking import Client

TITLES = ("IMAGE", "LAYER SIZE", "IMAGE SIZE", "CREATED BY")
BOLD, PLAIN = "\x1b[1m", "\x1b[m"
# The narrowest and the widest that the last column is cut to; what the sizes and the gaps take; the shortest name.
NARROW, WIDE = 10, 60
SIZES = 30
SHORTEST = 12


class Layer:
    """A layer and those upon it. `images`: the names of the images that end here; `total` is their size in bytes."""

    def __init__(self, identity: str, size: int = 0, created_by: str = "") -> None:
        self.identity, self.size, self.created_by = identity, size, created_by
        self.total = 0
        self.images: list[str] = []
        self.above: dict[str, Layer] = {}


class Image:
    """What is drawn of an image: its names, and its layers from the lowest, as (diff id, bytes, command)."""

    def __init__(self, names: list[str], size: int, layers: list[tuple[str, int, str]]) -> None:
        self.names, self.size, self.layers = names, size, layers


def load(client: Client, names: list[str], *, all: bool) -> list[Image]:
    """The images of these names, or all that `images` lists. Raises APIError."""
    found = [{"Id": name} for name in names] if names else client.images.list(all=all)
    # All are asked for before an answer is read.
    asked = []
    for image in found:
        path = f"/images/{quote(image['Id'], '/:@')}"
        asked.append((client.begin("GET", f"{path}/json"), client.begin("GET", f"{path}/history")))
    images = []
    for inspecting, telling in asked:
        image, history = inspecting.response().json(), telling.response().json()
        known = image.get("RepoTags") or image.get("RepoDigests") or [f"<none> {short_id(image['Id'])}"]
        layers = match_layers((image.get("RootFS") or {}).get("Layers") or [], history)
        images.append(Image(known, image.get("Size") or 0, layers))
    return images


def match_layers(diff_ids: list[str], history: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """Each layer, the lowest first, with the size and the command of the step that made it.

    The API does not say which steps made a layer. Those with a size did; of the others, as many as are wanting, the
    ones whose command writes files.
    """
    steps = list(reversed(history))
    chosen = {at for at, step in enumerate(steps) if step.get("Size")}
    rest = [at for at in range(len(steps)) if at not in chosen]
    rest.sort(key=lambda at: (not _writes(str(steps[at].get("CreatedBy") or "")), at))
    chosen.update(rest[: max(0, len(diff_ids) - len(chosen))])
    made = [steps[at] for at in sorted(chosen)]
    made += [{}] * (len(diff_ids) - len(made))
    return [(diff_id, step.get("Size") or 0, _command(step)) for diff_id, step in zip(diff_ids, made, strict=False)]


def _writes(command: str) -> bool:
    words = command.removeprefix("/bin/sh -c ").removeprefix("#(nop) ").split()
    return bool(words) and ("#(nop)" not in command or words[0] in ("ADD", "COPY")) and words[0] not in (
        "ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "SHELL", "STOPSIGNAL", "USER",
        "VOLUME",
    )  # fmt: skip


def _command(step: dict[str, Any]) -> str:
    text = str(step.get("CreatedBy") or step.get("Comment") or "")
    return " ".join(text.removeprefix("/bin/sh -c ").removeprefix("#(nop) ").split())


def grow(images: list[Image]) -> Layer:
    """The tree of all the layers; its root is no layer, and holds the images that have none."""
    root = Layer("")
    for image in images:
        at = root
        for identity, size, created_by in image.layers:
            at = at.above.setdefault(identity, Layer(identity, size, created_by))
        at.images += image.names
        at.total = image.size
    return root


def draw(images: list[Image], *, truncates: bool, width: int, bold: bool) -> str:
    """The tree as text. `width` of the terminal, 0 for none."""
    root = grow(images)
    lines: list[tuple[Layer, str, str]] = []
    if root.images:
        lines.append((root, "", ", ".join(root.images)))
    for layer in root.above.values():
        _draw(layer, "", "", lines, truncates=truncates)
    room = WIDE
    if width and truncates:
        most = width - SIZES - NARROW
        lines = [(layer, stem, ellipsis(label, max(SHORTEST, most - len(stem)))) for layer, stem, label in lines]
        taken = max((len(stem) + len(label) for _, stem, label in lines), default=0) + SIZES
        room = max(NARROW, min(WIDE, width - taken))
    rows = ["\t".join(TITLES)]
    for layer, stem, label in lines:
        total = human_size(layer.total, 3) if layer.images else ""
        command = ellipsis(layer.created_by, room) if truncates else layer.created_by
        rows.append(f"{stem}{label}\t{human_size(layer.size, 3)}\t{total}\t{command}")
    text = table("\n".join(rows) + "\n")
    if bold:
        for layer, _, label in lines:
            if layer.images:
                text = text.replace(label, BOLD + label + PLAIN, 1)
    return "".join(line.rstrip() + "\n" for line in text.splitlines()) + "\n" + summary(images, root)


def _draw(layer: Layer, stem: str, below: str, lines: list[tuple[Layer, str, str]], *, truncates: bool) -> None:
    """`stem` is what leads to this layer's line, `below` what stands before the lines of those upon it.

    A layer alone upon one that is alone stands straight below it, or twenty layers would take sixty columns.
    """
    identity = short_id(layer.identity) if truncates else layer.identity
    lines.append((layer, stem, ", ".join(layer.images) or f"({identity})"))
    above = list(layer.above.values())
    for each in above:
        last = each is above[-1]
        alone = len(above) == len(each.above) == 1
        beneath = below if alone else below + ("   " if last else "│  ")
        _draw(each, below + ("└─ " if last else "├─ "), beneath, lines, truncates=truncates)


def summary(images: list[Image], root: Layer) -> str:
    """How many there are, and what sharing saves."""
    layers, stored, waiting = 0, 0, list(root.above.values())
    while waiting:
        layer = waiting.pop()
        layers, stored = layers + 1, stored + layer.size
        waiting += layer.above.values()
    alone = sum(size for image in images for _, size, _ in image.layers)
    counted = f"{_plural(len(images), 'image')}, {_plural(layers, 'layer')}, {human_size(stored, 3)}"
    return counted + (f"; {human_size(alone - stored, 3)} saved by sharing\n" if alone > stored else "\n")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def show(session: Session, names: list[str], *, all: bool, truncates: bool) -> None:
    images = load(session.client, names, all=all)
    on_terminal = terminal.is_terminal(terminal.STDOUT)
    width = terminal.size()[1] if on_terminal else 0
    bold = on_terminal and not os.environ.get("NO_COLOR")
    sys.stdout.write(draw(images, truncates=truncates, width=width, bold=bold))


@command(
    flags.switch("all", "a", "Show all images (default hides intermediate images)"),
    flags.switch("no-trunc", "", "Don't truncate output"),
)
def run_tree(session: Session, options: Options) -> None:
    show(session, options.arguments, all=options["all"], truncates=not options["no-trunc"])
