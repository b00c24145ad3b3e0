"""`images` and `image ls`: the images, a line for each of their names."""

from __future__ import annotations

import os
import sys

from wherry.cli import terminal
from wherry.cli.session import CommandError, Session, command
from wherry.cli.table import TABLE, Listing, Row, chosen_format, ellipsis, local_time, rfc3339, short_id, since, table
from wherry.client.transport import APIError
from wherry.common import flags, platforms
from wherry.common.flags import Options
from wherry.common.reference import InvalidReference
from wherry.common.reference import parse as parse_reference
from wherry.common.sizes import human_size
from wherry.common.values import quoted

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
        except InvalidReference:
            continue
        found.setdefault(reference.familiar_name, []).append(reference.digest or reference.tag)
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

        show_platforms(found, truncates=not options["no-trunc"])
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


# One image's names: rmi, tag; and commit, which makes an image of a container and names it.


@command(
    flags.switch("force", "f", "Force removal of the image"),
    flags.switch("no-prune", "", "Do not delete untagged parents"),
    flags.Flag(
        "platform",
        "",
        'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        "strings",
        [],
        lambda text, so_far: [*so_far, *(platforms.parse_json(part) for part in text.split(","))],
    ),
)
def run_rmi(session: Session, options: Options) -> None:
    force = options["force"]
    errors: list[str] = []
    fatal = False
    for name in options.arguments:
        try:
            done = session.client.images.remove(
                name, force=force, noprune=options["no-prune"], platforms=options["platform"]
            )
        except APIError as error:
            fatal = fatal or not error.not_found
            errors.append(str(error))
            continue
        for item in done:
            deleted = item.get("Deleted")
            print("Deleted:" if deleted else "Untagged:", deleted or item.get("Untagged", ""))
    sys.stdout.flush()
    if errors and (fatal or not force):
        raise CommandError("\n".join(errors))
    if errors:
        print("\n".join(errors), file=sys.stderr)


@command(interspersed=False)
def run_tag(session: Session, options: Options) -> None:
    from wherry.common.reference import is_image_id, parse_to_tag

    source, target = options.arguments
    text = source
    try:
        if not is_image_id(source):
            parse_reference(source)
        text = target
        parse_reference(target)
    except InvalidReference as error:
        raise CommandError(f"Error parsing reference: {quoted(text)} is not a valid repository/tag: {error}") from None
    name = parse_to_tag(target)
    session.client.images.tag(source, name.familiar_name, name.tag)


@command(
    flags.string("author", "a", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
    flags.strings("change", "c", "Apply Dockerfile instruction to the created image"),
    flags.string("message", "m", "Commit message"),
    flags.switch("pause", "p", "Pause container during commit", True),
    interspersed=False,
)
def run_commit(session: Session, options: Options) -> None:
    from wherry.cli.build_progress import Working
    from wherry.common.reference import parse_to_tag

    container, *names = options.arguments
    name = parse_to_tag(names[0]) if names and names[0] else None
    with Working("Committing"):
        made = session.client.containers.commit(
            container,
            repo=name.name if name else "",
            tag=name.tag if name else "",
            comment=options["message"],
            author=options["author"],
            changes=options["change"],
            pause=None if options["pause"] else 0,
        )
    print(made)


# `history`: the steps that an image was made in, the last first.

# A step before the year 2000 has no date that means anything.
EPOCH = 946684800


def _created_since(row: Row) -> str:
    created = row["Created"] or 0
    return rfc3339(created) if not row["human"] else "N/A" if created <= EPOCH else since(created)


def _created_by(row: Row) -> str:
    command = str(row["CreatedBy"] or "").replace("\t", " ")
    return ellipsis(command, 45) if row.truncates else command


STEPS = Listing(
    "*image.historyContext",
    "ID CreatedSince CreatedBy Size Comment",
    {
        "ID": ("IMAGE", Row.id),
        "CreatedSince": ("CREATED", _created_since),
        "CreatedAt": ("CREATED AT", lambda row: rfc3339(row["Created"] or 0)),
        "CreatedBy": ("CREATED BY", _created_by),
        "Size": ("SIZE", lambda row: human_size(row["Size"] or 0, 3) if row["human"] else str(row["Size"] or 0)),
        "Comment": ("COMMENT", "Comment"),
    },
)


@command(
    flags.listing(),
    flags.switch("human", "H", "Print sizes and dates in human readable format", True),
    flags.switch("no-trunc", "", "Don't truncate output"),
    flags.platform("Show history for the given platform."),
    flags.switch("quiet", "q", "Only show image IDs"),
)
def run_history(session: Session, options: Options) -> None:
    platform = platforms.parse_json(options["platform"], "invalid platform: ")
    steps = session.client.images.history(options.arguments[0], platform)
    human = options["human"]
    rows = [Row(STEPS, {**step, "human": human}, not options["no-trunc"]) for step in steps]
    shown = () if human else ("ID", "CreatedAt", "CreatedBy", "Size", "Comment")
    sys.stdout.write(STEPS.text(rows, chosen_format(session, options, ""), shown))


# `image ls --tree`: the images, and below each the platforms of the index it came by, and which are here.

TITLES = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
IN_USE = "U"
FAINT, PLAIN = "\x1b[2m", "\x1b[m"


def show_platforms(images: list[dict[str, Any]], *, truncates: bool) -> None:
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
