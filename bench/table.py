"""The results as a table for people."""

from collections.abc import Mapping, Sequence

from bench.workloads import Workload

Results = Mapping[str, Mapping[str, float]]  # workload's name → client's name → median

OWN, BY_DOCKER, DOCKER = "wherry", "wherry, docker CLI", "Docker"


def render(workloads: Sequence[Workload], clients: Sequence[str], results: Results) -> str:
    """A row a workload, a column a client, then wherry's part of Docker's figure and the part that it is to reach."""
    head = ["", *clients, "part of Docker's", "goal", "part, docker CLI", "goal"]
    rows = [head]
    for workload in workloads:
        figures = results[workload.name]
        row = [workload.name, *[_figure(figures.get(client), workload.unit) for client in clients]]
        row += _compared(figures, OWN, workload.goal) + _compared(figures, BY_DOCKER, workload.goal_docker_cli)
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *[cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]]
        )
        for row in rows
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "B":
        return f"{value / 1e6:.1f} MB"
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"


def _compared(figures: Mapping[str, float], client: str, goal: float | None) -> list[str]:
    """How many times smaller than Docker's, and the goal with whether it is reached."""
    if client not in figures or DOCKER not in figures:
        return ["–", "–"]
    part = figures[client] / figures[DOCKER]
    shown = f"1/{1 / part:.1f}" if part < 1 else f"{part:.1f}"
    if goal is None:
        return [shown, ""]
    return [shown, f"1/{1 / goal:.3g} {'yes' if part <= goal else 'NO'}"]
