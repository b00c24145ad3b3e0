"""`images` and `image ls`: the images, a line for each of their names."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import Command, CommandError, between
from wherry.cli.formatting import (
    QUIET,
    RAW,
    TABLE,
    Row,
    human_size,
    listing,
    local_time,
    short_id,
    since,
)
from wherry.cli.reference import parse as parse_reference
from wherry.cli.texts import LISTING_FORMAT
from wherry.cli.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options

NONE = "<none>"
COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
COLUMNS_WITH_DIGEST = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")

RAW_FORMAT = """repository: {{.Repository}}
tag: {{.Tag}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}
"""
# `docker images ls` lists the images of that name, though another command was meant.
OTHER_COMMANDS = frozenset(
    ("build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag"),
)


class ImageRow(Row):
    """A name of an image of GET /images/json."""

    go_type = "*formatter.imageContext"
    headers = {  # noqa: RUF012 - never changed
        "ID": "IMAGE ID",
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "Digest": "DIGEST",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "Size": "SIZE",
        "Containers": "CONTAINERS",
        "VirtualSize": "SIZE",
        "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE",
    }

    def __init__(self, image: dict[str, Any], truncates: bool, repository: str, tag: str, digest: str) -> None:
        self.image, self.truncates = image, truncates
        self.repository, self.tag, self.digest = repository, tag, digest

    def number(self, key: str) -> int:
        return self.image.get(key) or 0

    def ID(self) -> str:
        identity = str(self.image.get("Id") or "")
        return short_id(identity) if self.truncates else identity

    def Repository(self) -> str:
        return self.repository

    def Tag(self) -> str:
        return self.tag

    def Digest(self) -> str:
        return self.digest

    def CreatedSince(self) -> str:
        return since(self.number("Created"))

    def CreatedAt(self) -> str:
        return local_time(self.number("Created"))

    def Size(self) -> str:
        return human_size(self.number("Size"), 3)

    def VirtualSize(self) -> str:
        return human_size(self.number("Size"))

    def Containers(self) -> str:
        return _unless_unknown(self.number("Containers"), str(self.number("Containers")))

    def SharedSize(self) -> str:
        return _unless_unknown(self.number("SharedSize"), human_size(self.number("SharedSize")))

    def UniqueSize(self) -> str:
        size, shared = self.number("Size"), self.number("SharedSize")
        return _unless_unknown(min(size, shared), human_size(size - shared))


def _unless_unknown(number: int, text: str) -> str:
    """The engine says -1 for what it was not asked to count."""
    return "N/A" if number == -1 else text


def rows_of(image: dict[str, Any], truncates: bool, digests: bool, every_digest: bool) -> list[ImageRow]:
    """A row for each name of an image.

    `digests`: a tag's row has the digest of its repository; `every_digest`: digests without a tag have rows too.
    """
    tags, known = _by_repository(image.get("RepoTags")), _by_repository(image.get("RepoDigests"))
    if not tags and not known:
        return [ImageRow(image, truncates, NONE, NONE, NONE)]
    rows = []
    for repository, names in tags.items():
        of_repository = known.pop(repository, []) if digests else known.pop(repository, [])[:0]
        for tag in names:
            rows += [ImageRow(image, truncates, repository, tag, digest) for digest in of_repository or [NONE]]
    for repository, left in known.items():
        rows += [ImageRow(image, truncates, repository, NONE, digest) for digest in (left if every_digest else [""])]
    return rows


def _by_repository(names: list[str] | None) -> dict[str, list[str]]:
    """The tags, or the digests, of each repository. What is no name, like <none>:<none>, is left out."""
    found: dict[str, list[str]] = {}
    for name in names or ():
        try:
            reference = parse_reference(name)
        except ValueError:
            continue
        if reference is not None:
            what, reference.tag, reference.digest = reference.digest or reference.tag, "", ""
            found.setdefault(reference.familiar, []).append(what)
    return found


def list_images(session: Session, options: Options) -> bool:
    """Prints the images, and says whether there were any."""
    filters: dict[str, list[str]] = options["filter"]
    if options.arguments:
        filters = {**filters, "reference": [*filters.get("reference", []), options.arguments[0]]}
    found = session.client.images.list(all=options["all"], filters=filters, manifests=options["tree"])
    if options["tree"]:
        for other in ("digests", "format", "quiet"):
            if options.changed(other):
                raise CommandError(f"--{other} and --tree cannot be used together")
        from wherry.cli import image_platforms

        image_platforms.show(found, truncates=not options["no-trunc"])
        return bool(found)
    quiet, digests = options["quiet"], options["digests"]
    format: str = options["format"] or ("" if quiet else str(session.config.get("imagesFormat") or "")) or TABLE
    format = _template(format, quiet, digests)
    with_digest = digests or "{{.Digest}}" in format
    rows = [row for image in found for row in rows_of(image, not options["no-trunc"], with_digest, digests)]
    columns = COLUMNS_WITH_DIGEST if digests else COLUMNS
    sys.stdout.write(listing(ImageRow, rows, format, columns))
    return bool(found)


def _template(format: str, quiet: bool, digests: bool) -> str:
    if format == TABLE:
        return QUIET if quiet else TABLE
    if format == RAW:
        if quiet:
            return "image_id: {{.ID}}"
        return RAW_FORMAT.replace("image_id", "digest: {{.Digest}}\nimage_id") if digests else RAW_FORMAT
    if format.startswith(TABLE) and digests and "{{.Digest}}" not in format:
        return format + "\t{{.Digest}}"
    return format


def run_images(session: Session, options: Options) -> None:
    any_found = list_images(session, options)
    if options.arguments and not any_found and options.arguments[0] in OTHER_COMMANDS:
        name = options.arguments[0]
        print(f'\nNo images found matching {quoted(name)}: did you mean "wherry image {name}"?', file=sys.stderr)


def run_image_ls(session: Session, options: Options) -> None:
    list_images(session, options)


FLAGS = [
    flags.switch("all", "a", "Show all images (default hides intermediate images)"),
    flags.switch("digests", "", "Show digests"),
    flags.filters("Filter output based on conditions provided"),
    flags.string("format", "", LISTING_FORMAT),
    flags.switch("no-trunc", "", "Don't truncate output"),
    flags.switch("quiet", "q", "Only show image IDs"),
    flags.switch("tree", "", "List multi-platform images as a tree"),
]
ALIASES = "wherry image ls, wherry image list, wherry images"

IMAGES = Command(
    "images [OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    run_images,
    flags=FLAGS,
    arguments=between(0, 1),
    aliases=ALIASES,
)
IMAGE_LS = Command(
    "ls [OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    run_image_ls,
    flags=FLAGS,
    arguments=between(0, 1),
    aliases=ALIASES,
)
