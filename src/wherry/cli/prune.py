"""`prune` of containers, images, volumes and the whole system: what nobody needs is removed, after a question."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import NONE, Command, CommandError
from wherry.cli.formatting import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options

    Filters = dict[str, list[str]]
    # What was removed, as it is told, and how many bytes that were.
    Outcome = tuple[str, int]

QUESTION = "Are you sure you want to continue? [y/N] "


def confirm(warning: str) -> bool:
    """Asks on standard output; anything but y is no."""
    sys.stdout.write(f"{warning}\n{QUESTION}")
    sys.stdout.flush()
    # Not input(): a terminal's line editing would be loaded for one letter.
    return sys.stdin.readline().strip().lower() == "y"


def filters_of(session: Session, options: Options) -> Filters:
    """--filter, and what docker's configuration leaves out at any prune ("pruneFilters"). The command line wins."""
    filters: Filters = {name: list(values) for name, values in options["filter"].items()}
    for text in session.config.get("pruneFilters") or ():
        name, equals, value = str(text).partition("=")
        opposite = {"label": "label!", "label!": "label"}.get(name)
        if not equals or (opposite and value in filters.get(opposite, ())):
            continue
        filters.setdefault(name, []).append(value)
    return filters


def prune_containers(session: Session, filters: Filters) -> Outcome:
    answer = session.client.post("/containers/prune", filters=filters)
    return _listed("Deleted Containers:", answer.get("ContainersDeleted")), answer["SpaceReclaimed"]


def prune_networks(session: Session, filters: Filters) -> Outcome:
    answer = session.client.post("/networks/prune", filters=filters)
    return _listed("Deleted Networks:", answer.get("NetworksDeleted")), 0


def prune_volumes(session: Session, filters: Filters) -> Outcome:
    answer = session.client.post("/volumes/prune", filters=filters)
    return _listed("Deleted Volumes:", answer.get("VolumesDeleted")), answer["SpaceReclaimed"]


def prune_images(session: Session, filters: Filters, *, all: bool) -> Outcome:
    filters = {**filters, "dangling": ["false" if all else "true"]}
    answer = session.client.post("/images/prune", filters=filters)
    removed = [
        f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item.get('Deleted', '')}"
        for item in answer.get("ImagesDeleted") or ()
    ]
    return _listed("Deleted Images:", removed), answer["SpaceReclaimed"]


def prune_build_cache(session: Session, filters: Filters, *, all: bool) -> Outcome:
    answer = session.client.post("/build/prune", filters=filters, all=all or None)
    return _listed("Deleted build cache objects:", answer.get("CachesDeleted")), answer["SpaceReclaimed"]


def _listed(title: str, names: list[Any] | None) -> str:
    return "".join(f"{line}\n" for line in (title, *names)) if names else ""


def _show(outcomes: list[Callable[[], Outcome]]) -> None:
    reclaimed = 0
    for outcome in outcomes:
        text, size = outcome()
        if text:
            print(text, flush=True)
            reclaimed += size
    print("Total reclaimed space:", human_size(reclaimed))


def run_container_prune(session: Session, options: Options) -> None:
    filters = filters_of(session, options)
    if options["force"] or confirm("WARNING! This will remove all stopped containers."):
        _show([lambda: prune_containers(session, filters)])


def run_image_prune(session: Session, options: Options) -> None:
    filters = filters_of(session, options)
    every = "all images without at least one container associated to them"
    what = every if options["all"] else "all dangling images"
    if options["force"] or confirm(f"WARNING! This will remove {what}."):
        _show([lambda: prune_images(session, filters, all=options["all"])])


def run_volume_prune(session: Session, options: Options) -> None:
    filters = filters_of(session, options)
    if options["all"]:
        if "all" in filters:
            raise CommandError("conflicting options: cannot specify both --all and --filter all=1")
        filters["all"] = ["true"]
    what = "all local volumes" if options["all"] else "anonymous local volumes"
    if options["force"] or confirm(f"WARNING! This will remove {what} not used by at least one container."):
        _show([lambda: prune_volumes(session, filters)])


def run_system_prune(session: Session, options: Options) -> None:
    all, volumes = options["all"], options["volumes"]
    if volumes and "until" in options["filter"]:
        raise CommandError('ERROR: The "until" filter is not supported with "--volumes"')
    filters = filters_of(session, options)
    if not options["force"] and not confirm(_warning(filters, all=all, volumes=volumes)):
        return
    steps: list[Callable[[], Outcome]] = [
        lambda: prune_containers(session, filters),
        lambda: prune_networks(session, filters),
    ]
    if volumes:
        steps.append(lambda: prune_volumes(session, filters))
    steps.append(lambda: prune_images(session, filters, all=all))
    steps.append(lambda: prune_build_cache(session, filters, all=all))
    _show(steps)


def _warning(filters: Filters, *, all: bool, volumes: bool) -> str:
    doomed = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        doomed.append("all anonymous volumes not used by at least one container")
    doomed.append("all images without at least one container associated to them" if all else "all dangling images")
    doomed.append("all build cache" if all else "unused build cache")
    lines = ["WARNING! This will remove:", *(f"  - {what}" for what in doomed), ""]
    shown = sorted(f"{name}={value}" for name in ("label", "label!", "until") for value in filters.get(name, ()))
    if shown:
        lines += ["  Items to be pruned will be filtered with:", *(f"  - {each}" for each in shown), ""]
    return "\n".join(lines)


_FORCE = flags.switch("force", "f", "Do not prompt for confirmation")

CONTAINER_PRUNE = Command(
    "prune [OPTIONS]",
    "Remove all stopped containers",
    run_container_prune,
    flags=[flags.filters('Provide filter values (e.g. "until=<timestamp>")', short=""), _FORCE],
    arguments=NONE,
)
IMAGE_PRUNE = Command(
    "prune [OPTIONS]",
    "Remove unused images",
    run_image_prune,
    flags=[
        flags.switch("all", "a", "Remove all unused images, not just dangling ones"),
        flags.filters('Provide filter values (e.g. "until=<timestamp>")', short=""),
        _FORCE,
    ],
    arguments=NONE,
)
VOLUME_PRUNE = Command(
    "prune [OPTIONS]",
    "Remove unused local volumes",
    run_volume_prune,
    flags=[
        flags.switch("all", "a", "Remove all unused volumes, not just anonymous ones"),
        flags.filters('Provide filter values (e.g. "label=<label>")', short=""),
        _FORCE,
    ],
    arguments=NONE,
)
SYSTEM_PRUNE = Command(
    "prune [OPTIONS]",
    "Remove unused data",
    run_system_prune,
    flags=[
        flags.switch("all", "a", "Remove all unused images not just dangling ones"),
        flags.filters('Provide filter values (e.g. "label=<key>=<value>")', short=""),
        _FORCE,
        flags.switch("volumes", "", "Prune anonymous volumes"),
    ],
    arguments=NONE,
)
