import io

import pytest

from wherry.cli.registry import show_progress
from wherry.client.transport import WorkFailed


def shown(*messages: dict[str, object]) -> str:
    out = io.StringIO()
    show_progress(messages, out)
    return out.getvalue()


def test_in_a_pipe_there_is_a_line_a_step() -> None:
    assert shown(
        {"status": "Pulling from library/x", "id": "latest"},
        {"status": "Pulling fs layer", "progressDetail": {}, "id": "abc"},
        {"status": "Downloading", "progressDetail": {"current": 5, "total": 10}, "id": "abc"},
        {"status": "Pull complete", "progressDetail": {}, "id": "abc"},
        {"stream": "Loaded image: x\n"},
        {"status": "Digest: sha256:1"},
    ) == (
        "latest: Pulling from library/x\nabc: Pulling fs layer\nabc: Pull complete\nLoaded image: x\nDigest: sha256:1\n"
    )


def test_what_is_for_the_program_is_not_shown() -> None:
    assert shown({"aux": {"ID": "x"}}, {"status": "done"}) == "done\n"


@pytest.mark.parametrize("error", [{"errorDetail": {"message": "no"}, "error": "no"}, {"error": "no"}])
def test_a_failure(error: dict[str, object]) -> None:
    out = io.StringIO()
    with pytest.raises(WorkFailed, match=r"^no$"):
        show_progress([{"status": "a"}, error], out)
    assert out.getvalue() == "a\n"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 120 columns."""
    out = io.StringIO()
    monkeypatch.setattr(out, "fileno", lambda: 1)
    monkeypatch.setattr("wherry.cli.terminal.is_terminal", lambda _: True)
    monkeypatch.setattr("os.get_terminal_size", lambda _: type("Size", (), {"columns": 120}))
    return out


def test_on_a_terminal_each_thing_has_its_line(screen: io.StringIO) -> None:
    show_progress(
        [
            {"status": "Waiting", "progressDetail": {}, "id": "a"},
            {"status": "Waiting", "progressDetail": {}, "id": "b"},
            {"status": "Downloading", "progressDetail": {"current": 500, "total": 1000}, "id": "a"},
        ],
        screen,
    )
    assert screen.getvalue().split("\x1b[2K\r") == [
        "\n\x1b[1A",
        "a: Waiting \r\x1b[1B\n\x1b[1A",
        "b: Waiting \r\x1b[1B\x1b[2A",
        f"a: Downloading [{'=' * 25}>{' ' * 25}]     500B/1kB\r\x1b[2B",
    ]


def test_speed_and_what_is_left(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer of 30 MB, 10 MB of which were there when its download was joined."""
    seconds = iter((100.0, 100.1, 102.0, 103.0))
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    sizes = [10_000_000, 11_000_000, 20_000_000, 30_000_000]
    show_progress(
        [
            {"status": "Downloading", "progressDetail": {"current": size, "total": 30_000_000}, "id": "abc"}
            for size in sizes
        ],
        screen,
    )
    shown = [line.partition("] ")[2].partition("\r")[0] for line in screen.getvalue().split("\x1b[2K\r")[1:]]
    assert shown == ["    10MB/30MB", "    11MB/30MB", "    20MB/30MB 5MB/s 2s", "    30MB/30MB"]
