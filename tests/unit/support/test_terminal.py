import pytest

from tests.support.terminal import Terminal


def test_types_and_reads_and_returns_the_exit_code() -> None:
    with Terminal(["sh", "-c", 'read answer; echo "got $answer"; exit 3']) as terminal:
        terminal.send("forty-two\r")
        terminal.expect(r"got forty-two")
        assert terminal.wait() == 3


def test_expecting_goes_on_after_what_was_seen() -> None:
    with Terminal(["printf", "one two one"]) as terminal:
        terminal.expect("one")
        terminal.expect("one")
        with pytest.raises(AssertionError, match="no 'one'"):
            terminal.expect("one", timeout=0.2)


def test_what_was_printed_last_is_read() -> None:
    with Terminal(["seq", "20000"]) as terminal:
        assert terminal.wait() == 0
        assert terminal.output.endswith("20000\r\n")


def test_control_c_reaches_the_command_as_a_signal() -> None:
    with Terminal(["sh", "-c", "trap 'exit 42' INT; echo ready; while :; do sleep 0.1; done"]) as terminal:
        terminal.expect("ready")
        terminal.send("\x03")
        assert terminal.wait() == 42


def test_has_a_size_that_can_change() -> None:
    with Terminal(["sh", "-c", "stty size; read _; stty size"], rows=33, columns=101) as terminal:
        terminal.expect("33 101")
        terminal.resize(10, 20)
        terminal.send("\r")
        terminal.expect("10 20")


def test_shows_the_settings_that_a_command_leaves_behind() -> None:
    with Terminal(["sh", "-c", "stty raw -echo; echo ready; read _; stty sane"]) as terminal:
        terminal.expect("ready")
        assert terminal.is_raw
        terminal.send("\n")
        terminal.wait()
        assert not terminal.is_raw
