"""`wherry system dial-stdio`: the engine's socket on standard input and output. What ssh runs on the other side."""

from __future__ import annotations

import os
import select

from wherry.cli import terminal
from wherry.cli.command import Session
from wherry.cli.flags import Options
from wherry.client.lean import sockets
from wherry.client.streams import write_all

PIECE = 1 << 18


def run_dial_stdio(session: Session, options: Options) -> None:
    # The first request would start an engine; here the other side makes the requests.
    session.client.negotiate()
    stream = session.client.host.connect()
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    poll = select.poll()
    poll.register(terminal.STDIN, select.POLLIN)
    poll.register(stream.fileno(), select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == terminal.STDIN:
                data = os.read(terminal.STDIN, PIECE)
                if data:
                    stream.sendall(data)
                else:
                    poll.unregister(terminal.STDIN)
                    stream.shutdown(sockets.SHUT_WR)
            else:
                count = stream.recv_into(view)
                if not count:
                    return
                write_all(terminal.STDOUT, [view[:count]])
