"""`inspect`: all that the engine knows of something, as JSON or through a template."""

from __future__ import annotations

import sys

from wherry.cli.session import Command, CommandError, Session, command
from wherry.cli.table import template_of
from wherry.client.client import quote
from wherry.client.transport import APIError, ClientError
from wherry.common import flags
from wherry.common.flags import Options
from wherry.common.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from wherry.cli.templates import Template

    # Gives the JSON of something.
    Find = Callable[[str], bytes]

PATHS = {
    "config": "/configs/{}",
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "node": "/nodes/{}",
    "plugin": "/plugins/{}/json",
    "secret": "/secrets/{}",
    "service": "/services/{}",
    "task": "/tasks/{}",
    "volume": "/volumes/{}",
}
# Where `inspect NAME` looks, in this order. What belongs to a swarm is not here: wherry has none.
SEARCHED = ("container", "image", "network", "volume", "plugin")
# What docker calls them when their name is empty.
EMPTY_NAMES = {"container": "container name or ID", "image": "image", "network": "network", "volume": "volume"}


def find_one(session: Session, kind: str, name: str, size: bool, **more: Any) -> bytes:
    """The JSON of one thing of a kind. Raises CommandError, APIError."""
    if not name:
        raise CommandError(f"invalid {EMPTY_NAMES.get(kind, kind)}: value is empty")
    query = {"size": 1, **more} if size and kind == "container" else more
    path = PATHS[kind].format(quote(name, "/:@" if kind == "image" else ""))
    return session.client.request("GET", path, query=query).read()


def find_any(session: Session, name: str, size: bool) -> bytes:
    """The first of all kinds of things that has the name."""
    for kind in SEARCHED:
        try:
            found = find_one(session, kind, name, size)
        except APIError as error:
            # An engine without plugins, say, and a name that an image cannot have: what is asked next may have it.
            if error.not_found or "not supported" in error.message or "invalid reference format" in error.message:
                continue
            raise
        _warn_of_size(size, kind)
        return found
    raise CommandError(f"Error: No such object: {name}")


def _warn_of_size(size: bool, kind: str) -> None:
    if size and kind != "container":
        print(f"WARNING: --size ignored for {kind}", file=sys.stderr)


def show(names: Sequence[str], format: str, find: Find) -> None:
    """Prints what `find` gives for each of the names; the errors come at the end. Raises CommandError for them."""
    template = None if format in ("", "json") else template_of(format)
    errors: list[str] = []
    shown: list[str] = []
    for name in names:
        try:
            body = find(name)
            shown.append(_templated(template, body) + "\n" if template else body.decode("utf-8", "surrogateescape"))
        except (ClientError, CommandError) as error:
            errors.append(str(error))
    if template:
        sys.stdout.write("".join(shown) or "\n")
    elif shown:
        text = f"[{','.join(shown)}]"
        sys.stdout.write((compact(text) if format == "json" else indent(text)) + "\n")
    else:
        sys.stdout.write("[]\n")
    sys.stdout.flush()
    if errors:
        raise CommandError("\n".join(errors))


def _templated(template: Template, body: bytes) -> str:
    from wherry.cli.templates import TemplateError
    from wherry.cli.templates.values import Time, shaped
    from wherry.client.c_modules import loads

    value = shaped(loads(body))
    if "IPAM" in value and "Created" in value:
        value["Created"] = Time(value["Created"])  # of a network; what else has one has it as text
    try:
        return template.execute(value)
    except TemplateError as error:
        raise CommandError(f"template parsing error: {error}") from None


def _pieces(text: str) -> list[str]:
    """JSON cut into strings and single other characters, without the space between them."""
    pieces = []
    position, size = 0, len(text)
    while position < size:
        character = text[position]
        if character == '"':
            end = position + 1
            while end < size and text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            pieces.append(text[position : end + 1])
            position = end + 1
            continue
        if character not in " \t\r\n":
            pieces.append(character)
        position += 1
    return pieces


def compact(text: str) -> str:
    """JSON on one line. Numbers and strings stay as the engine wrote them."""
    return "".join(_pieces(text))


def indent(text: str) -> str:
    """JSON with an element a line, four spaces deeper each level; keys in the engine's order."""
    parts: list[str] = []
    depth, before = 0, ""
    for piece in _pieces(text):
        opened, closes = before in ("{", "["), piece in ("}", "]")
        if opened != closes:
            depth += opened - closes
            parts.append("\n" + "    " * depth)
        elif before == ",":
            parts.append("\n" + "    " * depth)
        parts.append(": " if piece == ":" else piece)
        before = piece
    return "".join(parts)


@command(
    flags.template("f"),
    flags.switch("size", "s", "Display total file sizes if the type is container"),
    flags.string("type", "", "Only inspect objects of the given type"),
)
def run_inspect(session: Session, options: Options) -> None:
    kind, size = options["type"], options["size"]
    kinds = '", "'.join(PATHS)
    if options.changed("type") and not kind:
        raise CommandError(f'type is empty: must be one of "{kinds}"')
    if kind and kind not in PATHS:
        raise CommandError(f'unknown type: {quoted(kind)}: must be one of "{kinds}"')

    def find(name: str) -> bytes:
        if not kind:
            return find_any(session, name, size)
        found = find_one(session, kind, name, size)
        _warn_of_size(size, kind)
        return found

    show(options.arguments, options["format"], find)


def _of_kind(session: Session, options: Options) -> None:
    """`container inspect`, `image inspect`…"""
    kind, size = session.path.split()[1], "size" in options and options["size"]
    show(options.arguments, options["format"], lambda name: find_one(session, kind, name, size))


@command(
    flags.template("f"),
    flags.string(
        "platform",
        "",
        "Inspect a specific platform of the multi-platform image.\n"
        "If the image or the server is not multi-platform capable, the command will error out if the platform does "
        "not match.\n"
        "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
)
def run_image(session: Session, options: Options) -> None:
    from wherry.common import platforms

    platform = platforms.parse_json(options["platform"])
    show(options.arguments, options["format"], lambda name: find_one(session, "image", name, False, platform=platform))


run_of_kind = Command(_of_kind, [flags.template("f")])
run_container = Command(_of_kind, [flags.template("f"), flags.switch("size", "s", "Display total file sizes")])
run_network = Command(_of_kind, [flags.template("f"), flags.switch("verbose", "v", "Verbose output for diagnostics")])
