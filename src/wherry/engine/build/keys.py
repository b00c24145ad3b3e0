"""What a step depends on, as one digest: the same digest, the same result.

The parent's layers, the instruction after its variables are replaced, the configuration that it runs with, and the
contents of what it copies. Neither times nor names of files on this machine count, so a key is the same everywhere.
"""

import hashlib
from typing import Any

import msgspec

_VERSION = 1  # counts up when steps come to do something else
_encode = msgspec.json.Encoder(order="deterministic").encode


def step_inputs(kind: str, **inputs: Any) -> str:
    """A digest of everything but the parent."""
    return hashlib.sha256(_encode([_VERSION, kind, inputs])).hexdigest()


def step_key(parent: str, inputs: str) -> str:
    """``parent`` is the chain id that the step begins with, "" for nothing."""
    return hashlib.sha256(f"{parent} {inputs}".encode()).hexdigest()
