"""A container's log as a whole: the file that is read by ``logs``, and where its lines are forwarded to."""

from collections.abc import Callable

from wherry.runtime import journald, json_lines, syslog
from wherry.runtime.errors import StartError
from wherry.runtime.json_lines import LINE_AT_MOST
from wherry.runtime.log import Sink, open_writer
from wherry.runtime.loop import Loop
from wherry.runtime.outlet import Outlet
from wherry.runtime.spec import Log, Syslog

Compose = Callable[[int, bytes, bool], bytes]


def open_log(log: Log, loop: Loop, warn: Callable[[str], None]) -> Sink | None:
    """None when nothing is kept. Raises OSError for the file, StartError when the log cannot be forwarded."""
    forwarder = _open_forwarder(log, loop) if log.forward is not None else None
    writer = open_writer(log, warn)
    if forwarder is not None and writer is not None:
        return _Both(writer, forwarder)
    return writer or forwarder


def _open_forwarder(log: Log, loop: Loop) -> "Forwarder":
    to = log.forward
    assert to is not None
    try:
        if isinstance(to, Syslog):
            dialer = syslog.Dialer(to)
            outlet = Outlet(
                loop,
                dialer.first(),
                dialer.connect,
                established=dialer.established,
                limit=log.buffer,
                patient=log.patient,
            )
            return Forwarder(outlet, syslog.composer(to))
        outlet = Outlet(loop, journald.connect(to), lambda: journald.connect(to), limit=log.buffer, patient=log.patient)
        return Forwarder(outlet, journald.composer(to))
    except OSError as error:
        raise StartError(
            f"failed to initialize logging driver: {to.address}: {error.strerror or error}", 128
        ) from error


class Forwarder:
    """A message a line, or a piece of a line of 16 KiB. What begins a line is held until it ends."""

    has_work = False

    def __init__(self, outlet: Outlet, compose: Compose) -> None:
        self._outlet = outlet
        self._compose = compose
        self._held = {1: b"", 2: b""}

    def write(self, stream: int, data: memoryview) -> None:
        block = self._held[stream] + data
        begun = len(block) - block.rfind(b"\n") - 1
        whole = len(block) - begun % LINE_AT_MOST
        self._held[stream] = block[whole:]
        self._forward(stream, block[:whole])

    def end(self, stream: int) -> None:
        held, self._held[stream] = self._held[stream], b""
        if held:
            self._outlet.send([self._compose(stream, held, False)])

    def work(self) -> None:
        """Nothing to be done between writes: the loop tells the outlet when there is."""

    def close(self) -> None:
        self.end(1)
        self.end(2)
        self._outlet.close()

    def _forward(self, stream: int, block: bytes) -> None:
        messages: list[bytes] = []
        for part in json_lines.cut(block):
            *lines, piece = part.split(b"\n")
            messages += [self._compose(stream, line, False) for line in lines]
            if piece:
                messages.append(self._compose(stream, piece, True))
        self._outlet.send(message for message in messages if message)


class _Both:
    """The forwarder and the file beside it."""

    def __init__(self, writer: Sink, forwarder: Sink) -> None:
        self._sinks = (writer, forwarder)

    def write(self, stream: int, data: memoryview) -> None:
        for sink in self._sinks:
            sink.write(stream, data)

    def end(self, stream: int) -> None:
        for sink in self._sinks:
            sink.end(stream)

    @property
    def has_work(self) -> bool:
        return any(sink.has_work for sink in self._sinks)

    def work(self) -> None:
        for sink in self._sinks:
            if sink.has_work:
                sink.work()

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
