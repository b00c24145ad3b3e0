"""A start whose engine is killed in its middle."""

import socket

import pytest

from wherry.runtime.ipc import StartError
from wherry.runtime.monitor import Monitor


def test_a_container_that_no_engine_can_know_of_is_not_started() -> None:
    monitor = Monitor(None, lambda running: None)
    kind = socket.SOCK_SEQPACKET
    with socket.socket(socket.AF_UNIX, kind) as listener, socket.socket(socket.AF_UNIX, kind) as next_engine:
        listener.bind("")  # an address of the kernel's choice
        listener.listen()
        monitor._listener = listener
        monitor._daemon, engine = socket.socketpair(socket.AF_UNIX, kind)
        with monitor._daemon:
            monitor._check_is_wanted()
            engine.close()
            with pytest.raises(StartError, match="is gone"):
                monitor._check_is_wanted()
            next_engine.connect(listener.getsockname())
            monitor._check_is_wanted()
