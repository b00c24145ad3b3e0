"""What is asked of one container at the same time by several: each is answered, and what is left is whole."""

import threading
from collections.abc import Callable

from tests.support.engine import Engine


def _at_once(*calls: Callable[[], object]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_start_and_rm(engine: Engine, busybox: str) -> None:
    """Without force a container that runs is never removed, however close its start was."""
    for number in range(20):
        name = f"race-{number}"
        body = {"Image": busybox, "Cmd": ["sleep", "1000"]}
        assert engine.request("POST", f"/containers/create?name={name}", body).status == 201
        found: dict[str, int] = {}

        def ask(method: str, path: str, name: str = name, found: dict[str, int] = found) -> None:
            found[method] = engine.request(method, f"/containers/{name}{path}").status

        _at_once(lambda: ask("POST", "/start"), lambda: ask("DELETE", ""))
        assert sorted(found.values()) in ([204, 404], [204, 409]), found
        listed = engine.request("GET", f"/containers/json?all=1&filters={{%22name%22:[%22{name}$%22]}}").body
        assert [each["State"] for each in listed] == (["running"] if found["POST"] == 204 else [])


def test_restart_and_rm(engine: Engine, busybox: str) -> None:
    for number in range(20):
        name = f"race-{number}"
        body = {"Image": busybox, "Cmd": ["sleep", "1000"]}
        assert engine.request("POST", f"/containers/create?name={name}", body).status == 201
        found: list[int] = []

        def ask(method: str, path: str, name: str = name, found: list[int] = found) -> None:
            found.append(engine.request(method, f"/containers/{name}{path}").status)

        _at_once(
            lambda: ask("POST", "/restart?t=0"),
            lambda: ask("DELETE", "?force=1"),
            lambda: ask("POST", "/restart?t=0"),
            lambda: ask("POST", "/start"),
        )
        assert 204 in found and not [status for status in found if status >= 500], found
        assert engine.request("GET", f"/containers/{name}/json").status == 404
