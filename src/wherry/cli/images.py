"""`images` and `image ls`: the images, a line for each of their names."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import CommandError, Session, command
from wherry.cli.flags import Options
from wherry.cli.formatting import TABLE, Listing, Row, chosen_format, human_size, local_time, since
from wherry.cli.reference import parse as parse_reference
from wherry.cli.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NONE = "<none>"
NEVER = -62135596800  # Go's zero time: of an image that does not say when it was made
WITH_DIGEST = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")

RAW_FORMAT = """repository: {{.Repository}}
tag: {{.Tag}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}
"""
# `docker images ls` lists the images of that name, though another command was meant.
OTHER_COMMANDS = frozenset(
    ("build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag")
)


def _counted(row: Row, field: str) -> str:
    """A size, but the engine says -1 for what it was not asked to count."""
    return "N/A" if row[field] == -1 else human_size(row[field] or 0)


def _unique(row: Row) -> str:
    size, shared = row["Size"] or 0, row["SharedSize"] or 0
    return "N/A" if -1 in (size, shared) else human_size(size - shared)


IMAGES = Listing(
    "*formatter.imageContext",
    "Repository Tag ID CreatedSince Size",
    {
        "ID": ("IMAGE ID", Row.id),
        "Repository": ("REPOSITORY", "Repository"),
        "Tag": ("TAG", "Tag"),
        "Digest": ("DIGEST", "Digest"),
        "CreatedSince": ("CREATED", lambda row: "N/A" if row["Created"] == NEVER else since(row["Created"] or 0)),
        "CreatedAt": ("CREATED AT", lambda row: local_time(row["Created"] or 0)),
        "Size": ("SIZE", lambda row: human_size(row["Size"] or 0, 3)),
        "Containers": ("CONTAINERS", lambda row: "N/A" if row["Containers"] == -1 else str(row["Containers"] or 0)),
        "VirtualSize": ("SIZE", lambda row: human_size(row["Size"] or 0)),
        "SharedSize": ("SHARED SIZE", lambda row: _counted(row, "SharedSize")),
        "UniqueSize": ("UNIQUE SIZE", _unique),
    },
)


def rows_of(image: dict[str, Any], truncates: bool, digests: bool, every_digest: bool) -> list[Row]:
    """A row for each name of an image.

    `digests`: a tag's row has the digest of its repository; `every_digest`: digests without a tag have rows too.
    """

    def row(repository: str, tag: str, digest: str) -> Row:
        return Row(IMAGES, {**image, "Repository": repository, "Tag": tag, "Digest": digest}, truncates)

    tags, known = _by_repository(image.get("RepoTags")), _by_repository(image.get("RepoDigests"))
    if not tags and not known:
        return [row(NONE, NONE, NONE)]
    rows = []
    for repository, names in tags.items():
        of_repository = known.pop(repository, []) if digests else known.pop(repository, [])[:0]
        rows += [row(repository, tag, digest) for tag in names for digest in of_repository or [NONE]]
    for repository, left in known.items():
        rows += [row(repository, NONE, digest) for digest in (left if every_digest else [""])]
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


@command(
    flags.switch("all", "a", "Show all images (default hides intermediate images)"),
    flags.switch("digests", "", "Show digests"),
    flags.filters("Filter output based on conditions provided"),
    flags.listing(),
    flags.switch("no-trunc", "", "Don't truncate output"),
    flags.switch("quiet", "q", "Only show image IDs"),
    flags.switch("tree", "", "List multi-platform images as a tree"),
)
def run_images(session: Session, options: Options) -> None:
    filters: dict[str, list[str]] = options["filter"]
    if options.arguments and options.arguments[0]:
        filters = {**filters, "reference": [*filters.get("reference", []), options.arguments[0]]}
    found = session.client.images.list(all=options["all"], filters=filters, manifests=options["tree"])
    if options["tree"]:
        for other in ("digests", "format", "quiet"):
            if options.changed(other):
                raise CommandError(f"--{other} and --tree cannot be used together")
        from wherry.cli import image_platforms

        image_platforms.show(found, truncates=not options["no-trunc"])
        return
    digests = options["digests"]
    raw = RAW_FORMAT.replace("image_id", "digest: {{.Digest}}\nimage_id") if digests else RAW_FORMAT
    format = chosen_format(session, options, "imagesFormat", raw=raw)
    if format.startswith(TABLE) and format != TABLE and digests and "{{.Digest}}" not in format:
        format += "\t{{.Digest}}"
    with_digest = digests or "{{.Digest}}" in format
    rows = [row for image in found for row in rows_of(image, not options["no-trunc"], with_digest, digests)]
    sys.stdout.write(IMAGES.text(rows, format, WITH_DIGEST if digests else ()))
    if not found and options.arguments and options.arguments[0] in OTHER_COMMANDS and session.path == "wherry images":
        name = options.arguments[0]
        print(f'\nNo images found matching {quoted(name)}: did you mean "wherry image {name}"?', file=sys.stderr)
