"""`wherry commit`."""

from __future__ import annotations

from wherry.cli.command import Command, CommandError, between
from wherry.cli.flags import string, strings, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options


def run_commit(session: Session, options: Options) -> None:
    container, *names = options.arguments
    repository, tag = _name(names[0]) if names and names[0] else ("", "")
    made = session.client.post(
        "/commit",
        container=container,
        repo=repository,
        tag=tag,
        comment=options["message"],
        author=options["author"],
        changes=options["change"],
        pause=None if options["pause"] else False,
    )
    print(made["Id"])


def _name(text: str) -> tuple[str, str]:
    """Repository and tag. Raises CommandError with docker's words."""
    from wherry.cli.reference import parse, tagged

    try:
        reference = parse(text)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if reference is None:
        raise CommandError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    if reference.digest:
        raise CommandError("refusing to create a tag with a digest reference")
    reference = tagged(reference)
    return reference.repository, reference.tag


COMMIT = Command(
    "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    run_commit,
    flags=[
        string("author", "a", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
        strings("change", "c", "Apply Dockerfile instruction to the created image"),
        string("message", "m", "Commit message"),
        switch("pause", "p", "Pause container during commit", True),
    ],
    arguments=between(1, 2),
    aliases="wherry container commit, wherry commit",
    interspersed=False,
)
