"""One image's names: rmi, tag; and commit, which makes an image of a container and names it."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import CommandError, Session, command
from wherry.cli.flags import Options
from wherry.cli.platform import parse_platform
from wherry.cli.values import quoted
from wherry.client.client import image_path
from wherry.client.errors import APIError


@command(
    flags.switch("force", "f", "Force removal of the image"),
    flags.switch("no-prune", "", "Do not delete untagged parents"),
    flags.Flag(
        "platform",
        "",
        'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        "strings",
        [],
        lambda text, so_far: [*so_far, *(parse_platform(part) for part in text.split(","))],
    ),
)
def run_rmi(session: Session, options: Options) -> None:
    force = options["force"]
    errors: list[str] = []
    fatal = False
    for name in options.arguments:
        try:
            done = session.client.delete(
                image_path(name), force=force, noprune=options["no-prune"], platforms=options["platform"]
            )
        except APIError as error:
            fatal = fatal or not error.not_found
            errors.append(str(error))
            continue
        for item in done or ():
            deleted = item.get("Deleted")
            print("Deleted:" if deleted else "Untagged:", deleted or item.get("Untagged", ""))
    sys.stdout.flush()
    if errors and (fatal or not force):
        raise CommandError("\n".join(errors))
    if errors:
        print("\n".join(errors), file=sys.stderr)


@command(interspersed=False)
def run_tag(session: Session, options: Options) -> None:
    from wherry.cli.reference import BadName, Reference, parse, to_tag

    source, target = options.arguments
    text = source
    try:
        parse(source)
        text = target
        name = to_tag(target)
    except BadName as error:
        raise CommandError(f"Error parsing reference: {quoted(text)} is not a valid repository/tag: {error}") from None
    repository = Reference(name.domain, name.path, "", "").familiar
    session.client.post(image_path(source, "tag"), repo=repository, tag=name.tag)


@command(
    flags.string("author", "a", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
    flags.strings("change", "c", "Apply Dockerfile instruction to the created image"),
    flags.string("message", "m", "Commit message"),
    flags.switch("pause", "p", "Pause container during commit", True),
    interspersed=False,
)
def run_commit(session: Session, options: Options) -> None:
    from wherry.cli.reference import to_tag
    from wherry.cli.working import Working

    container, *names = options.arguments
    name = to_tag(names[0]) if names and names[0] else None
    with Working("Committing"):
        made = session.client.post(
            "/commit",
            container=container,
            repo=name.repository if name else "",
            tag=name.tag if name else "",
            comment=options["message"],
            author=options["author"],
            changes=options["change"],
            pause=None if options["pause"] else 0,
        )
    print(made["Id"])
