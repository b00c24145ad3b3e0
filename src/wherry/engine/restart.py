"""Restart policies: whether a container that ended is started again, and after how long."""

from wherry.model.host import RestartPolicy

_SHORTEST = 0.1  # seconds; the delay doubles with each restart
_LONGEST = 60.0
_LONG_RUN = 10 * 1_000_000_000  # ns; after a run as long as this the delay begins anew. The figures are Docker's


def wanted(policy: RestartPolicy, *, exit_code: int, restart_count: int, user_stopped: bool) -> bool:
    """Whether the policy asks for another start after an exit while the engine runs."""
    if user_stopped:
        return False
    if policy.name == "on-failure":
        limit = policy.maximum_retry_count
        return exit_code != 0 and (limit == 0 or restart_count < limit)
    return policy.name in ("always", "unless-stopped")


def wanted_at_boot(policy: RestartPolicy, *, exit_code: int, restart_count: int, user_stopped: bool) -> bool:
    """Whether it asks for a start when the engine comes up and finds the container ended: "always" forgets a stop."""
    stopped = user_stopped and policy.name != "always"
    return wanted(policy, exit_code=exit_code, restart_count=restart_count, user_stopped=stopped)


def next_delay(last: float, ran: int) -> float:
    """Seconds to wait before the next start, after a delay of ``last`` and a run of ``ran`` nanoseconds."""
    if last == 0 or ran >= _LONG_RUN:
        return _SHORTEST
    return min(last * 2, _LONGEST)
