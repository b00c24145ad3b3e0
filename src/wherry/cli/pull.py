"""`pull` and `push`: images from a registry and to one, with a progress bar a layer."""

from __future__ import annotations

import os
import sys

from wherry.cli import flags
from wherry.cli.command import Command, CommandError, exactly, refuse_content_trust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options
    from wherry.cli.reference import Reference

DEFAULT_TAG = "latest"


def run_pull(session: Session, options: Options) -> None:
    from wherry.cli.auth import header

    refuse_content_trust(options)
    reference = _name(options.arguments[0])
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
    print(_whole(reference))


def run_push(session: Session, options: Options) -> None:
    from wherry.cli.auth import header

    refuse_content_trust(options)
    reference = _name(options.arguments[0])
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
        platform=_platform(options["platform"]),
        auth=header(session.config, reference.domain),
    )
    _show(messages, quiet)
    if quiet:
        print(_whole(reference))


def _platform(text: str) -> dict[str, str]:
    """{"os": "linux", "architecture": "arm", "variant": "v7"} of "linux/arm/v7"; {} of nothing."""
    parts = text.split("/") if "/" in text or not text else ["linux", text]
    return dict(zip(("os", "architecture", "variant"), filter(None, parts), strict=False))


def _show(messages: Iterable[dict[str, Any]], quiet: bool) -> None:
    from wherry.cli.progress import show

    if quiet:
        with open(os.devnull, "w") as nowhere:
            show(messages, nowhere)
    else:
        show(messages, sys.stdout)


def _name(text: str) -> Reference:
    from wherry.cli.reference import parse

    try:
        reference = parse(text)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if reference is None:
        raise CommandError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    return reference


def _whole(reference: Reference) -> str:
    """docker.io/library/debian:12"""
    tag, digest = reference.tag, reference.digest
    return reference.repository + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


PULL = Command(
    "pull [OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    run_pull,
    flags=[
        flags.switch("all-tags", "a", "Download all tagged images in the repository"),
        flags.content_trust("Skip image verification"),
        flags.string("platform", "", "Set platform if server is multi-platform capable"),
        flags.switch("quiet", "q", "Suppress verbose output"),
    ],
    arguments=exactly(1),
    aliases="wherry image pull, wherry pull",
)
PUSH = Command(
    "push [OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    run_push,
    flags=[
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
    ],
    arguments=exactly(1),
    aliases="wherry image push, wherry push",
)
