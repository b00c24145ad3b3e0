"""docs/daemon.md has the daemon's settings as they are."""

from scripts.daemon_settings import BEGIN, DOCUMENT, tables


def test_the_tables_are_those_of_the_settings() -> None:
    assert DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2] == tables(), "run scripts/daemon_settings.py"
