"""`wherry system dial-stdio`: the engine's socket on standard input and output. What ssh runs on the other side."""

from __future__ import annotations

import os
import select
from contextlib import suppress

from wherry.cli import terminal
from wherry.cli.session import Session
from wherry.client.c_modules import sockets
from wherry.client.streams import write_all
from wherry.common.flags import Options

PIECE = 1 << 18


def run_dial_stdio(session: Session, options: Options) -> None:
    # The first request would start an engine; here the other side makes the requests.
    session.client.negotiate()
    stream = session.client.host.connect()
    stream.setblocking(False)
    view = memoryview(bytearray(PIECE))
    untaken = memoryview(b"")  # by the engine, which may first want to get rid of what it has itself
    hidden = False
    poll = select.poll()
    poll.register(terminal.STDIN, select.POLLIN)
    while True:
        poll.register(stream.fileno(), select.POLLIN | (select.POLLOUT if untaken else 0))
        ready = {descriptor for descriptor, _ in poll.poll(0 if hidden else None)}
        if terminal.STDIN in ready:
            untaken = memoryview(os.read(terminal.STDIN, PIECE))
            poll.unregister(terminal.STDIN)
            if not untaken:
                stream.shutdown(sockets.SHUT_WR)
        if untaken:
            with suppress(BlockingIOError):
                untaken = untaken[stream.send(untaken) :]
            if not untaken:
                poll.register(terminal.STDIN, select.POLLIN)
        try:
            count = stream.recv_into(view)
        except BlockingIOError:
            hidden = False
            continue
        if not count:
            return
        write_all(terminal.STDOUT, [view[:count]])
        hidden = getattr(stream, "hides", False)
