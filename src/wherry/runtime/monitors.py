"""The daemon's side of a monitor: a container that runs, as an object.

    monitor, sockets = await launcher.start(spec, attach=[Streams(stdout=True, stderr=True)])
    exit = await monitor.exited
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Sequence

import msgspec

from wherry.linux.cgroups import Hierarchies
from wherry.runtime import protocol
from wherry.runtime.errors import StartError
from wherry.runtime.monitor_files import EXIT, SOCKET
from wherry.runtime.spec import Process

__all__ = ["Exec", "Exit", "Monitor", "StartError", "connect"]

KILLED = 128 + signal.SIGKILL

_decode_exited = msgspec.json.Decoder(protocol.Exited).decode
