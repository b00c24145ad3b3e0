"""`daemon` is another program, of the engine's side: here is what help and completion know of it."""

from __future__ import annotations

import os
import sys

from wherry.cli.session import Session, command
from wherry.common.flags import Options
from wherry.common.settings import daemon_flags


@command(*daemon_flags(), passes_on=True)
def run_daemon(session: Session, options: Options) -> None:
    from wherry.client.local import python

    sys.stdout.flush()
    os.execv(sys.executable, [*python(), "-m", "wherry.daemon", *session.before, *options.arguments])
