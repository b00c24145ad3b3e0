"""`builder prune`: what builds have left, and nobody needs."""

from __future__ import annotations

from wherry.cli import flags
from wherry.cli.command import NONE, Command
from wherry.cli.formatting import human_size
from wherry.cli.prune import confirm, filters_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options

_DANGLING = "WARNING! This will remove all dangling build cache."
_ALL = "WARNING! This will remove all build cache."


def run_prune(session: Session, options: Options) -> None:
    filters = filters_of(session, options)
    if not options["force"] and not confirm(_ALL if options["all"] else _DANGLING):
        return
    keep = options["keep-storage"]
    answer = session.client.post(
        "/build/prune", **{"all": options["all"] or None, "reserved-space": keep or None, "filters": filters or None}
    )
    deleted = answer.get("CachesDeleted") or []
    if deleted:
        print("Deleted build cache objects:")
        print("\n".join(deleted))
        print()
    print("Total reclaimed space:", human_size(answer["SpaceReclaimed"]))


PRUNE = Command(
    "prune",
    "Remove build cache",
    run_prune,
    flags=[
        flags.switch("all", "a", "Remove all unused build cache, not just dangling ones"),
        flags.filters('Provide filter values (e.g. "until=24h")', short=""),
        flags.switch("force", "f", "Do not prompt for confirmation"),
        flags.size("keep-storage", "", "Amount of disk space to keep for cache"),
    ],
    arguments=NONE,
    aliases="wherry builder prune",
)
