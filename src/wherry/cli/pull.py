"""`pull` and `push`: images from a registry and to one, with a progress bar a layer."""

from __future__ import annotations

import os
import sys

from wherry.cli import flags
from wherry.cli.command import CommandError, Session, command, refuse_content_trust
from wherry.cli.flags import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

DEFAULT_TAG = "latest"


@command(
    flags.switch("all-tags", "a", "Download all tagged images in the repository"),
    flags.content_trust("Skip image verification"),
    flags.string("platform", "", "Set platform if server is multi-platform capable"),
    flags.switch("quiet", "q", "Suppress verbose output"),
)
def run_pull(session: Session, options: Options) -> None:
    from wherry.cli.auth import header
    from wherry.cli.reference import named

    refuse_content_trust(options)
    reference = named(options.arguments[0])
    every, quiet = options["all-tags"], options["quiet"]
    if every and (reference.tag or reference.digest):
        raise CommandError("tag can't be used with --all-tags/-a")
    if not every and not reference.tag and not reference.digest:
        reference.tag = DEFAULT_TAG
        if not quiet:
            print(f"Using default tag: {DEFAULT_TAG}", flush=True)
    messages = session.client.images.pull(
        reference.repository,
        reference.digest or reference.tag,
        platform=options["platform"] or os.environ.get("DOCKER_DEFAULT_PLATFORM", ""),
        auth=header(session.config, reference.domain),
    )
    _show(messages, quiet)
    print(reference.whole)


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
    from wherry.cli.platform import parse_platform
    from wherry.cli.reference import named

    refuse_content_trust(options)
    platform = parse_platform(options["platform"])
    reference = named(options.arguments[0])
    every, quiet = options["all-tags"], options["quiet"]
    if every and reference.tag:
        raise CommandError("tag can't be used with --all-tags/-a")
    if reference.digest:
        raise CommandError("cannot push a digest reference")
    if not every and not reference.tag:
        reference.tag = DEFAULT_TAG
        if not quiet:
            print(f"Using default tag: {DEFAULT_TAG}", flush=True)
    messages = session.client.images.push(
        reference.repository,
        "" if every else reference.tag,
        platform=platform,
        auth=header(session.config, reference.domain),
    )
    _show(messages, quiet)
    if quiet:
        print(reference.whole)


def _show(messages: Iterable[dict[str, Any]], quiet: bool) -> None:
    from wherry.cli.progress import show

    show(messages, None if quiet else sys.stdout)
