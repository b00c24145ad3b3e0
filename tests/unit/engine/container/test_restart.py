"""Restart policies: who is started again, and after how long."""

import pytest

from wherry.engine.container.lifecycle import next_restart_delay, restart_wanted, restart_wanted_at_boot
from wherry.model.container import RestartPolicy


@pytest.mark.parametrize(
    ("policy", "exit_code", "count", "stopped", "expected"),
    [
        (RestartPolicy("no"), 1, 0, False, False),
        (RestartPolicy("always"), 0, 9, False, True),
        (RestartPolicy("always"), 0, 0, True, False),
        (RestartPolicy("unless-stopped"), 1, 0, False, True),
        (RestartPolicy("unless-stopped"), 1, 0, True, False),
        (RestartPolicy("on-failure"), 0, 0, False, False),
        (RestartPolicy("on-failure"), 3, 50, False, True),
        (RestartPolicy("on-failure", 2), 3, 1, False, True),
        (RestartPolicy("on-failure", 2), 3, 2, False, False),
    ],
)
def test_wanted(policy: RestartPolicy, exit_code: int, count: int, stopped: bool, expected: bool) -> None:
    assert restart_wanted(policy, exit_code=exit_code, restart_count=count, user_stopped=stopped) is expected


def test_at_boot_always_forgets_that_it_was_stopped() -> None:
    for name, expected in (("always", True), ("unless-stopped", False), ("no", False)):
        policy = RestartPolicy(name)
        assert restart_wanted_at_boot(policy, exit_code=0, restart_count=0, user_stopped=True) is expected


def test_the_delay_doubles_up_to_a_minute_and_begins_anew_after_a_long_run() -> None:
    delay, delays = 0.0, []
    for _ in range(12):
        delay = next_restart_delay(delay, ran=0)
        delays.append(delay)
    assert delays[:3] == [0.1, 0.2, 0.4]
    assert delays[-1] == 60
    assert next_restart_delay(60, ran=11 * 10**9) == 0.1
