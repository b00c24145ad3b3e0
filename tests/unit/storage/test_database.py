import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from wherry.storage.database import Database


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state.db")


def test_migrates_once_and_further(path: str) -> None:
    first = ["CREATE TABLE things (name TEXT PRIMARY KEY)", "INSERT INTO things VALUES ('a')"]
    Database(path).migrate("things", first)
    database = Database(path)
    database.migrate("things", [*first, "INSERT INTO things VALUES ('b')"])
    assert database.query("SELECT name FROM things") == [("a",), ("b",)]


def test_refuses_what_a_newer_version_wrote(path: str) -> None:
    Database(path).migrate("things", ["CREATE TABLE things (name TEXT)", "CREATE TABLE more (name TEXT)"])
    with pytest.raises(RuntimeError, match="newer wherry: things is at version 2"):
        Database(path).migrate("things", ["CREATE TABLE things (name TEXT)"])


def test_a_migration_that_fails_leaves_nothing(path: str) -> None:
    database = Database(path)
    with pytest.raises(Exception, match="syntax"):
        database.migrate("things", ["CREATE TABLE things (name TEXT)", "nonsense"])
    database.migrate("things", ["CREATE TABLE things (name TEXT)"])


def test_a_transaction_is_all_or_nothing(path: str) -> None:
    database = Database(path)
    database.migrate("things", ["CREATE TABLE things (name TEXT)"])
    with pytest.raises(ZeroDivisionError), database.transaction():
        database.execute("INSERT INTO things VALUES ('a')")
        with database.transaction():
            database.execute("INSERT INTO things VALUES ('b')")
        raise ZeroDivisionError
    assert database.one("SELECT count(*) FROM things") == (0,)
    with database.transaction(), database.transaction():
        database.execute("INSERT INTO things VALUES ('a')")
    assert database.query("SELECT name FROM things") == [("a",)]


def test_answers(path: str) -> None:
    database = Database(path)
    database.migrate("things", ["CREATE TABLE things (name TEXT)"])
    assert database.execute("INSERT INTO things VALUES (?), (?)", ("a", "b")) == 2
    assert database.one("SELECT name FROM things WHERE name = ?", ("c",)) is None
    assert database.execute("DELETE FROM things") == 2


def test_threads_take_turns(path: str) -> None:
    database = Database(path)
    database.migrate("things", ["CREATE TABLE things (count INTEGER)", "INSERT INTO things VALUES (0)"])

    def add() -> None:
        for _ in range(50):
            with database.transaction():
                (count,) = database.query("SELECT count FROM things")[0]
                database.execute("UPDATE things SET count = ?", (count + 1,))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.query("SELECT count FROM things") == [(200,)]


def test_only_its_owner_reads_it(path: str) -> None:
    Database(path).close()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_what_was_committed_survives_a_kill(path: str) -> None:
    program = """
import os, signal, sys
from wherry.storage.database import Database
database = Database(sys.argv[1])
database.migrate("things", ["CREATE TABLE things (name TEXT)"])
database.execute("INSERT INTO things VALUES ('kept')")
with database.transaction():
    database.execute("INSERT INTO things VALUES ('lost')")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program, path]).returncode == -9
    assert Database(path).query("SELECT name FROM things") == [("kept",)]


def test_what_cannot_be_committed_is_undone(path: str) -> None:
    """As on a full disk. The next transaction begins anew."""
    database = Database(path)
    database.migrate("test", ["CREATE TABLE a (id PRIMARY KEY)", "CREATE TABLE b (a REFERENCES a (id))"])
    with pytest.raises(sqlite3.IntegrityError), database.transaction():
        database.execute("PRAGMA defer_foreign_keys = ON")  # found out by the commit
        database.execute("INSERT INTO b VALUES (1)")
    with database.transaction():
        database.execute("INSERT INTO a VALUES (1)")
    assert database.query("SELECT * FROM b") == []
    database.close()


def test_there_is_room_for_what_happens_when_the_disk_is_full(path: str) -> None:
    database = Database(path)
    for file in (path, f"{path}-wal"):
        status = os.stat(file)
        assert status.st_size < 1 << 20 and status.st_blocks * 512 > 4 << 20, file
    database.close()


def test_a_full_disk(path: str) -> None:
    database = Database(path)
    database.migrate("test", ["CREATE TABLE a (data)"])
    pages = database.one("PRAGMA page_count")
    assert pages is not None
    database.execute(f"PRAGMA max_page_count = {pages[0]}")
    with pytest.raises(sqlite3.OperationalError, match="full"), database.transaction():
        database.execute("INSERT INTO a VALUES (zeroblob(100000))")
    with database.transaction():
        database.execute("INSERT INTO a VALUES (1)")
    assert database.query("SELECT * FROM a") == [(1,)]
    database.close()


def test_somebody_else_may_look(path: str) -> None:
    """Another process that reads the file while it is open, an administrator's sqlite3, takes nothing away by it."""
    look = f"import sqlite3; print(sqlite3.connect({path!r}).execute('SELECT count(*) FROM boats').fetchone()[0])"

    def rows() -> int:
        return int(subprocess.run([sys.executable, "-c", look], capture_output=True, check=True).stdout)

    database = Database(path)
    database.migrate("fleet", ["CREATE TABLE boats (name TEXT)"])
    assert rows() == 0
    database.execute("INSERT INTO boats VALUES ('wherry')")
    assert rows() == 1
    database.close()
