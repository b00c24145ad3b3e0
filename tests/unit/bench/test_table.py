from bench import table
from bench.workloads import Workload

CLIENTS = ["wherry", "wherry, docker CLI", "Docker"]


def _row(workload: Workload, figures: dict[str, float]) -> str:
    return table.render([workload], CLIENTS, {workload.name: figures}).splitlines()[2]


def _workload(**fields: object) -> Workload:
    return Workload("run", lambda _: 0.0, 1, **fields)  # the fields differ from test to test


def test_shows_times_and_parts_of_dockers() -> None:
    row = _row(_workload(), {"wherry": 0.040, "wherry, docker CLI": 0.050, "Docker": 0.400})
    assert row.split() == ["run", "40", "ms", "50", "ms", "400", "ms", "1/10.0", "1/8.0"]


def test_says_whether_a_goal_is_reached() -> None:
    row = _row(
        _workload(goal=1 / 8, goal_docker_cli=1 / 10), {"wherry": 0.05, "wherry, docker CLI": 0.05, "Docker": 0.4}
    )
    assert "1/8 yes" in row
    assert "1/10 NO" in row


def test_shows_megabytes() -> None:
    assert "2.5 MB" in _row(_workload(unit="B"), {"wherry": 2_500_000})


def test_a_client_that_could_not_take_part_has_no_figure() -> None:
    row = _row(_workload(goal=1 / 8), {"Docker": 2.0})
    assert row.split() == ["run", "–", "–", "2.00", "s", "–", "–", "–", "–"]
