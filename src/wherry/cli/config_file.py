"""docker's config.json, changed: what is not meant stays as it is, and others may read it meanwhile."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def change(directory: str, alter: Callable[[dict[str, Any]], None]) -> str:
    """Alters the configuration and gives the file's path. Raises OSError; a broken file is left alone.

    What is there is read anew: it may have changed. Where the file is a link, what it leads to is written.
    """
    import json

    path = os.path.realpath(os.path.join(directory, "config.json"))
    try:
        with open(path, "rb") as file:
            config = json.load(file)
    except FileNotFoundError:
        config = {}
    except ValueError as error:
        raise OSError(f"{path} is no valid JSON, and is left alone: {error}") from None
    alter(config)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    write(path, json.dumps(config, indent="\t").encode())
    return path


def write(path: str, content: bytes, mode: int = 0o600) -> None:
    """The whole file or none of it."""
    beside = f"{path}.{os.getpid()}"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)
