"""`tag`: another name for an image."""

from __future__ import annotations

from wherry.cli.command import Command, CommandError, exactly
from wherry.cli.reference import Reference, parse, tagged
from wherry.cli.values import quoted
from wherry.client.client import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options


def run_tag(session: Session, options: Options) -> None:
    source, target = options.arguments
    _reference(source)
    name = _reference(target)
    if name is None:
        raise _not_a_name(target, f"invalid repository name ({target}), cannot specify 64-byte hexadecimal strings")
    if name.digest:
        raise CommandError("refusing to create a tag with a digest reference")
    name = tagged(name)
    repository = Reference(name.domain, name.path, "", "").familiar
    session.client.post(f"/images/{quote(source, '/:@')}/tag", repo=repository, tag=name.tag)


def _reference(text: str) -> Reference | None:
    try:
        return parse(text)
    except ValueError as error:
        raise _not_a_name(text, str(error)) from None


def _not_a_name(text: str, why: str) -> CommandError:
    return CommandError(f"Error parsing reference: {quoted(text)} is not a valid repository/tag: {why}")


TAG = Command(
    "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    run_tag,
    arguments=exactly(2),
    aliases="wherry image tag, wherry tag",
    interspersed=False,
)
