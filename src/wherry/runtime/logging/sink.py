"""Where a container's output goes: the log that ``logs`` reads, and where its lines are forwarded to."""

from collections.abc import Callable
from typing import Protocol

from wherry.runtime.ipc import Loop, StartError
from wherry.runtime.logging import json_file
from wherry.runtime.logging.remote import Dialer, LogShipper, connect_journald, journald_composer, syslog_composer
from wherry.runtime.logging.write_behind import WriteBehind
from wherry.runtime.logging.writer import JsonFileWriter, LocalWriter, Writer
from wherry.runtime.spec import Log, Syslog

Compose = Callable[[int, bytes, bool], bytes]


class Sink(Protocol):
    """Where a container's output goes, for good. ``Writer`` says what each of these does."""

    @property
    def delay(self) -> float | None: ...
    def write(self, stream: int, data: memoryview) -> None: ...
    def end(self, stream: int) -> None: ...
    def work(self) -> None: ...
    def settle(self) -> None: ...
    def close(self) -> None: ...


def open_log(log: Log, loop: Loop, warn: Callable[[str], None]) -> Sink | None:
    """None when nothing is kept. Raises OSError for the file, StartError when the log cannot be forwarded."""
    forwarder = _open_forwarder(log, loop) if log.forward is not None else None
    writer = open_writer(log, warn, loop)
    if forwarder is not None and writer is not None:
        return _Both(writer, forwarder)
    return writer or forwarder


def open_writer(log: Log, warn: Callable[[str], None] = lambda text: None, loop: Loop | None = None) -> Writer | None:
    """The writer of the log's driver; None for the driver "none". OSError when the file cannot be opened."""
    if log.driver == "none":
        return None
    if log.driver == "json-file":
        return JsonFileWriter(log, warn)
    return WriteBehind(log, warn, loop) if log.json_path else LocalWriter(log, warn)


def _open_forwarder(log: Log, loop: Loop) -> "Forwarder":
    to = log.forward
    assert to is not None
    try:
        if isinstance(to, Syslog):
            dialer = Dialer(to)
            shipper = LogShipper(
                loop,
                dialer.first(),
                dialer.connect,
                established=dialer.established,
                limit=log.buffer,
                patient=log.patient,
            )
            return Forwarder(shipper, syslog_composer(to))
        shipper = LogShipper(
            loop, connect_journald(to), lambda: connect_journald(to), limit=log.buffer, patient=log.patient
        )
        return Forwarder(shipper, journald_composer(to))
    except OSError as error:
        raise StartError(
            f"failed to initialize logging driver: {to.address}: {error.strerror or error}", 128
        ) from error


class Forwarder:
    """A message a line, or a piece of a line of 16 KiB. What begins a line is held until it ends."""

    delay = None

    def __init__(self, shipper: LogShipper, compose: Compose) -> None:
        self._shipper = shipper
        self._compose = compose
        self._begun = json_file.Begun()

    def write(self, stream: int, data: memoryview) -> None:
        self._forward(stream, b"".join(self._begun.complete(stream, data)))

    def end(self, stream: int) -> None:
        if rest := self._begun.rest(stream):
            self._shipper.send([self._compose(stream, rest, False)])

    def work(self) -> None:
        """Nothing to be done between writes: the loop tells the shipper when there is."""

    def settle(self) -> None:
        """Nothing of it can be looked at."""

    def close(self) -> None:
        self.end(1)
        self.end(2)
        self._shipper.close()

    def _forward(self, stream: int, block: bytes) -> None:
        messages: list[bytes] = []
        for part in json_file.cut(block):
            *lines, piece = part.split(b"\n")
            messages += [self._compose(stream, line, False) for line in lines]
            if piece:
                messages.append(self._compose(stream, piece, True))
        self._shipper.send(message for message in messages if message)


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
    def delay(self) -> float | None:
        return self._sinks[0].delay

    def work(self) -> None:
        self._sinks[0].work()

    def settle(self) -> None:
        for sink in self._sinks:
            sink.settle()

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
