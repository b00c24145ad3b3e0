"""A build's progress: a log of lines in a pipe, and on a terminal lines that are drawn again."""

import io
import re
from typing import Any

from wherry.cli.build_progress import Live, Plain, Progress, Silent


def show(progress: Progress, events: list[dict[str, Any]], *, failed: bool = False) -> str:
    for event in events:
        progress.take(event)
    progress.close(failed)
    assert isinstance(progress.out, io.StringIO)
    return progress.out.getvalue()


def begun(step: int, text: str, stage: int = 0, name: str = "stage-0") -> dict[str, Any]:
    return {"type": "begun", "step": step, "stage": stage, "name": name, "text": text, "line": step}


def done(step: int, *, cached: bool = False) -> dict[str, Any]:
    return {"type": "done", "step": step, "stage": 0, "cached": cached, "seconds": 1.25, "state": "x"}


def printed(step: int, text: str) -> dict[str, Any]:
    return {"type": "printed", "step": step, "stream": 1, "text": text}


PLANNED = {"type": "planned", "total": 2}
FAILING = [
    PLANNED, begun(1, "FROM a"), done(1, cached=True), begun(2, "RUN \x1b[2J x"), printed(2, "half a "),
    printed(2, "line\nrest"), {"type": "failed", "step": 2, "stage": 0},
]  # fmt: skip


def test_a_log() -> None:
    shown = show(Plain(io.StringIO()), FAILING, failed=True)
    assert shown.startswith("#1 [1/2] FROM a\n#1 CACHED\n\n#2 [2/2] RUN ")
    assert re.search(r"#2 \d+\.\d{3} half a line\n#2 \d+\.\d{3} rest\n#2 ERROR 0\.\ds\n", shown)
    assert shown.endswith("------\nhalf a line\nrest\n".removeprefix("------\n") + "------\n")


def test_stages_have_their_names() -> None:
    events = [PLANNED, begun(1, "FROM a", name="build"), begun(2, "FROM b", 1, "stage-1")]
    assert "#1 [build 1/2] FROM a" in show(Plain(io.StringIO()), events)


def test_lines_on_a_terminal(monkeypatch: Any) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = show(Live(io.StringIO()), FAILING, failed=True)
    last = shown.rpartition("[+] Building")[2]
    assert "(2/2) ERROR\n" in last
    assert "\x1b[34m => CACHED [1/2] FROM a" in last and "\x1b[31m => ERROR [2/2] RUN" in last
    assert "\x1b[2J" not in shown, "a step's text may not move the cursor"


def test_what_a_step_prints_is_seen_while_it_runs(monkeypatch: Any) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    progress = Live(io.StringIO())
    for event in (PLANNED, begun(1, "RUN x"), printed(1, "50%\r100%\nnext \x1b[1m")):
        progress.take(event)
    with progress._lock:
        progress._draw()
    shown = show(progress, [])
    assert " => => # 100%\n" in shown and "50%" not in shown and "\x1b[1m" not in shown


def test_a_line_without_an_end_is_not_gathered_for_ever() -> None:
    bar = [printed(1, f"\r{number}% of it") for number in range(1000)]
    progress = Plain(io.StringIO())
    shown = show(progress, [PLANNED, begun(1, "RUN x"), *bar, printed(1, "\r"), printed(1, "\n"), done(1)])
    assert re.search(r"#1 \d+\.\d{3} 999% of it\n#1 DONE", shown) and "998%" not in shown
    for _ in range(400):
        progress.take(printed(1, "x" * 60_000))
    assert len(progress.steps[1].rest) <= 1 << 16 and sum(map(len, progress.steps[1].lines)) > 23_000_000


def test_nothing_is_said_of_what_went_well() -> None:
    assert show(Silent(io.StringIO()), [PLANNED, begun(1, "RUN x"), printed(1, "loud\n"), done(1)]) == ""


def test_what_is_interrupted_leaves_no_piece_of_the_frame(monkeypatch: Any) -> None:
    """The terminal writes ^C where the cursor is, so that going up alone would leave two characters of a line."""
    monkeypatch.setenv("NO_COLOR", "1")
    progress = Live(io.StringIO())
    for event in (PLANNED, begun(1, "RUN x"), printed(1, "output\n")):
        progress.take(event)
    with progress._lock:
        progress._draw()
    shown = show(progress, [], failed=True)
    for up in re.findall(r".?\x1b\[\d+A", shown, re.DOTALL):
        assert up.startswith("\r")
    last = shown.rpartition("\x1b[J")[2]
    assert re.fullmatch(r"\[\+\] Building \d\.\ds \(0/2\) ERROR\n => CANCELED \[1/2\] RUN x +0\.\ds\n", last)
