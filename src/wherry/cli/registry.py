"""`pull` and `push`: images from a registry and to one, with a progress bar a layer."""

from __future__ import annotations

import json
import os
import sys
import time
from base64 import b64decode

from wherry.cli import terminal
from wherry.cli.session import CommandError, Session, command, refuse_content_trust
from wherry.cli.table import JSON, Listing, Row, ellipsis
from wherry.client.transport import APIError, checked
from wherry.common import flags
from wherry.common.flags import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO


@command(
    flags.switch("all-tags", "a", "Download all tagged images in the repository"),
    flags.content_trust("Skip image verification"),
    flags.string("platform", "", "Set platform if server is multi-platform capable"),
    flags.switch("quiet", "q", "Suppress verbose output"),
)
def run_pull(session: Session, options: Options) -> None:
    from wherry.cli.auth import header
    from wherry.common.reference import parse

    refuse_content_trust(options)
    reference = parse(options.arguments[0])
    every, quiet = options["all-tags"], options["quiet"]
    if every and (reference.tag or reference.digest):
        raise CommandError("tag can't be used with --all-tags/-a")
    if not every and not reference.tag and not reference.digest:
        reference = reference.with_default_tag()
        if not quiet:
            print(f"Using default tag: {reference.tag}", flush=True)
    messages = session.client.images.pull(
        reference.name,
        reference.digest or reference.tag,
        platform=options["platform"] or os.environ.get("DOCKER_DEFAULT_PLATFORM", ""),
        auth=header(session.config, reference.domain),
    )
    _show(messages, quiet)
    print(reference)


@command(
    flags.switch("all-tags", "a", "Push all tags of an image to the repository"),
    flags.content_trust("Skip image signing"),
    flags.string(
        "platform",
        "",
        "Push a platform-specific manifest as a single-platform image to the registry.\n"
        "Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n"
        "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
    flags.switch("quiet", "q", "Suppress verbose output"),
)
def run_push(session: Session, options: Options) -> None:
    from wherry.cli.auth import header
    from wherry.common import platforms
    from wherry.common.reference import parse

    refuse_content_trust(options)
    platform = platforms.parse_json(options["platform"])
    reference = parse(options.arguments[0])
    every, quiet = options["all-tags"], options["quiet"]
    if every and reference.tag:
        raise CommandError("tag can't be used with --all-tags/-a")
    if reference.digest:
        raise CommandError("cannot push a digest reference")
    if not every and not reference.tag:
        reference = reference.with_default_tag()
        if not quiet:
            print(f"Using default tag: {reference.tag}", flush=True)
    messages = session.client.images.push(
        reference.name,
        "" if every else reference.tag,
        platform=platform,
        auth=header(session.config, reference.domain),
    )
    _show(messages, quiet)
    if quiet:
        print(reference)


def _show(messages: Iterable[dict[str, Any]], quiet: bool) -> None:

    show_progress(messages, None if quiet else sys.stdout)


# `search`: repositories of Docker Hub, or of a registry that the term names, by words in their names.

_DESCRIPTION = 45  # characters


def _description(row: Row) -> str:
    text = str(row["description"] or "").replace("\n", " ").replace("\r", " ")
    return ellipsis(text, _DESCRIPTION) if row.truncates else text


HITS = Listing(
    "*registry.searchContext",
    "Name Description StarCount IsOfficial",
    {
        "Name": ("NAME", "name"),
        "Description": ("DESCRIPTION", _description),
        "StarCount": ("STARS", lambda row: str(row["star_count"] or 0)),
        "IsOfficial": ("OFFICIAL", "official"),
    },
)


@command(
    flags.filters("Filter output based on conditions provided"),
    flags.string("format", "", "Pretty-print search using a Go template"),
    flags.integer("limit", "", "Max number of search results"),
    flags.switch("no-trunc", "", "Don't truncate output"),
)
def run_search(session: Session, options: Options) -> None:
    from wherry.cli.auth import header

    term = options.arguments[0]
    first, slash, _ = term.partition("/")
    domain = first if slash and ("." in first or ":" in first or first == "localhost") else ""
    auth = header(session.config, domain)
    limit = options["limit"] or None
    found = session.client.images.search(term, auth=auth, limit=limit, filters=options["filter"])
    format = options["format"]
    is_json = format == JSON or format.startswith("{{json .}}")
    words = ("false", "true") if is_json else ("", "[OK]")
    for hit in found:
        hit["official"] = words[bool(hit["is_official"])]
    sys.stdout.write(HITS.text([Row(HITS, hit, not options["no-trunc"]) for hit in found], format))


# `manifest inspect`: what a name leads to in its registry, without pulling it.

_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@command(
    flags.switch("insecure", "", "Allow communication with an insecure registry"),
    flags.switch("verbose", "v", "Output additional info including layers and platform"),
)
def run_inspect(session: Session, options: Options) -> None:
    from wherry.cli.auth import header
    from wherry.client.client import quote
    from wherry.common.reference import InvalidReference, parse

    if len(options.arguments) > 1:
        raise CommandError("wherry keeps no manifest lists of its own: name the manifest alone")
    text = options.arguments[0]
    try:
        name = parse(text).with_default_tag()
    except InvalidReference as error:
        raise CommandError(f"Error parsing name for manifest list {text}: {error}") from None
    path = name.name + (f"@{name.digest}" if name.digest else f":{name.tag}")
    auth = header(session.config, name.domain)
    try:
        found: dict[str, Any] = session.client.request(
            "GET",
            f"/distribution/{quote(path, '/:@')}/manifest",
            query={"insecure": options["insecure"]},
            headers={"X-Registry-Auth": auth} if auth else {},
        ).json()
    except APIError as error:
        if error.status == 404:
            raise CommandError(f"no such manifest: {path}") from None
        raise
    shown = _described(found) if options["verbose"] else _document(found)
    sys.stdout.write(json.dumps(shown, indent="\t", ensure_ascii=False) + "\n")


def _described(found: dict[str, Any]) -> Any:
    """Every manifest with where it is from, as `--verbose` shows it."""
    return [_entry(each) for each in found["Manifests"]] or _entry(found)


def _entry(found: dict[str, Any]) -> dict[str, Any]:
    media_type = found["Descriptor"]["mediaType"]
    kind = "SchemaV2Manifest" if media_type == _DOCKER_MANIFEST else "OCIManifest"
    return {name: found[name] for name in ("Ref", "Descriptor", "Raw")} | {kind: _document(found)}


def _document(found: dict[str, Any]) -> Any:
    return json.loads(b64decode(found["Raw"]))


# The progress of long work (pull, load, import, push, build), which the engine tells as a stream of JSON messages.
#
# On a terminal each thing that is worked on has a line of its own, with a bar; in a pipe there is a line a step.

BAR = 50
# The widths from which on there is room for the bar, and for the speed and the time that is left.
ROOM_FOR_BAR, ROOM_FOR_TIME = 115, 50
SOONEST = 0.5  # seconds after which a speed means something


def show_progress(messages: Iterable[dict[str, Any]], out: TextIO | None) -> None:
    """Shows the messages as they come, None nowhere. Raises WorkFailed with the engine's text."""
    drawer = _Drawer(out) if out else None
    for message in checked(messages):
        if drawer and message.get("aux") is None:
            drawer.draw(message)
    if out:
        out.flush()


class _Drawer:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: dict[str, int] = {}  # the line of each thing that is worked on, from the first
        self._begun: dict[str, tuple[float, int]] = {}  # by the text of each step: since when, and the bytes then
        try:
            descriptor = out.fileno()
        except (OSError, ValueError):
            descriptor = -1
        self._terminal = descriptor >= 0 and terminal.is_terminal(descriptor)
        self._descriptor = descriptor

    def draw(self, message: dict[str, Any]) -> None:
        name, detail = message.get("id", ""), message.get("progressDetail")
        up = 0
        if name and (detail is not None or message.get("progress")):
            if name not in self._lines:
                self._lines[name] = len(self._lines)
                self._write("\n" if self._terminal else "")
            up = len(self._lines) - self._lines[name]
        else:
            # Other output moves everything; what was drawn before stays as it is.
            self._lines.clear()
        if not self._terminal:
            self._plain(message, name, detail)
            return
        self._write(f"\x1b[{up}A" if up else "")
        self._write(self._text(message, name, detail))
        self._write(f"\x1b[{up}B" if name and up else "")
        self._out.flush()

    def _plain(self, message: dict[str, Any], name: str, detail: dict[str, Any] | None) -> None:
        if detail and (detail.get("current", 0) > 0 or detail.get("total", 0) > 0):
            return  # only a terminal can show how far it is
        self._write(self._text(message, name, None))

    def _text(self, message: dict[str, Any], name: str, detail: dict[str, Any] | None) -> str:
        if message.get("stream"):
            return str(message["stream"])
        text = (f"{name}: " if name else "") + str(message.get("status", ""))
        if detail is None:
            return text + "\n"
        return f"\x1b[2K\r{text} {self._bar(text, detail)}\r"

    def _bar(self, text: str, detail: dict[str, Any]) -> str:
        from wherry.common.sizes import human_size

        current, total, units = detail.get("current", 0), detail.get("total", 0), detail.get("units", "")
        if current <= 0 and total <= 0:
            return ""
        shown = f"{current} {units}" if units else f"{human_size(current):>8}"
        if total <= 0:
            return shown
        width = os.get_terminal_size(self._descriptor).columns
        filled = min(BAR, int(current / total * BAR))
        bar = f"[{'=' * filled}>{' ' * (BAR - filled)}] " if width > ROOM_FOR_BAR else ""
        if current <= total:
            shown = f"{current}/{total} {units}" if units else f"{human_size(current):>8}/{human_size(total)}"
        speed = 0.0 if units else self._speed(text, current)
        if width > ROOM_FOR_TIME and speed and current < total:
            shown += f" {human_size(int(speed))}/s {round((total - current) / speed)}s"
        return bar + ("" if detail.get("hidecounts") else shown)

    def _speed(self, what: str, current: int) -> float:
        """Bytes a second since this step of this thing began, or began anew; 0 while there is none to tell."""
        now = time.monotonic()
        since, at_first = self._begun.setdefault(what, (now, current))
        if current < at_first:
            self._begun[what] = now, current
        return (current - at_first) / (now - since) if now - since >= SOONEST else 0.0

    def _write(self, text: str) -> None:
        if text:
            self._out.write(text)
