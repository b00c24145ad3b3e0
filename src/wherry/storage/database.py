"""The engine's state: one SQLite file, shared by the parts that each own a few tables of it.

In WAL mode with synchronous=NORMAL a transaction is one write(2) and no fsync: a killed process loses nothing that was
committed, and a machine that loses its power loses the last moments but never the file's integrity. Storage marks
what was not yet synced to the disk by then, see ``layers``.

On a full disk the engine must still be able to write down that something has ended or is removed, or nobody could make
room: so some space is reserved for the two files when they are opened.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from wherry.linux.files import reserve

Row = tuple[Any, ...]

_RESERVED = 5 << 20  # bytes: the log is begun anew when it has 4 MB


class Database:
    """One connection. Statements of several threads take turns; a transaction belongs to the thread that began it."""

    def __init__(self, path: str) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self.closed = False
        # Made here so that the mode is right from the first moment: environment variables of containers are inside.
        # And not touched once it is connected: to close a descriptor drops all locks that this process has on the file.
        _reserve(path)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.execute("PRAGMA busy_timeout = 5000")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS schema (component TEXT PRIMARY KEY, version INTEGER NOT NULL)"
        )
        _reserve(f"{path}-wal")  # which no locks are on

    def migrate(self, component: str, statements: Sequence[str]) -> None:
        """Brings a component's tables up to date: runs those of ``statements`` that this file has not seen.

        The list only ever grows at its end. Raises RuntimeError when a newer wherry has been here.
        """
        with self.transaction():
            row = self.one("SELECT version FROM schema WHERE component = ?", (component,))
            version = row[0] if row else 0
            if version > len(statements):
                raise RuntimeError(
                    f"the data root was last used by a newer wherry: {component} is at version {version}, "
                    f"this one knows {len(statements)}. Install that version again, or use another --data-root"
                )
            for statement in statements[version:]:
                self._connection.execute(statement)
            self.execute("INSERT OR REPLACE INTO schema VALUES (?, ?)", (component, len(statements)))

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Runs one statement; how many rows it changed."""
        with self._lock:
            return self._connection.execute(sql, parameters).rowcount

    def execute_each(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Runs one statement for each row."""
        with self._lock:
            self._connection.executemany(sql, rows)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with self._lock:
            return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        """The first row, or None."""
        with self._lock:
            row: Row | None = self._connection.execute(sql, parameters).fetchone()
            return row

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. One inside another is part of it."""
        with self._lock:
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self._connection.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite may have rolled back by itself, or have failed to commit.
                if self._depth == 1 and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def close(self) -> None:
        with self._lock:
            self.closed = True
            self._connection.close()


def _reserve(path: str) -> None:
    """Reserves space, as far as there is room, and where the file system can do it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):
        reserve(fd, os.fstat(fd).st_size + _RESERVED)
    os.close(fd)
