"""``python -m bench``: see ``--help``."""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import table
from bench.engines import Client, Engine, Wherry, installed
from bench.workloads import BUSYBOX_ARCHIVE, WORKLOADS, Workload


def main() -> None:
    options = _parse_options()
    if os.geteuid() != 0:
        sys.exit("bench: the engines need root")
    workloads = [workload for workload in WORKLOADS if options.only in workload.name]
    with tempfile.TemporaryDirectory(prefix="wherry-bench-", dir="/var/tmp") as directory:
        with _engines(options.engines, Path(directory)) as engines:
            clients = [client for engine in engines for client in _clients(engine)]
            results = {workload.name: _measure(workload, clients, options.rounds) for workload in workloads}
    names = [client.name for client in clients]
    print(f"\n{_machine()}; medians\n\n{table.render(workloads, names, results)}")
    if options.json:
        options.json.write_text(json.dumps({"machine": _machine(), "results": results}, indent=2) + "\n")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure wherry beside Docker and Podman.")
    parser.add_argument("--engines", nargs="+", default=["wherry", "docker", "podman"], metavar="NAME",
                        choices=["wherry", "docker", "podman"], help="those to compare (default: all installed)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the workloads with this text in their name")
    parser.add_argument("--rounds", type=int, metavar="N", help="measure each workload N times")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the medians there, in seconds and bytes")
    return parser.parse_args()  # fmt: skip


@contextlib.contextmanager
def _engines(names: Sequence[str], directory: Path) -> Iterator[list[Engine]]:
    """The engines, started and with busybox loaded. One that does not start is left out, with its reason."""
    started: list[Engine] = []
    with contextlib.ExitStack() as stack:
        for kind in installed(names):
            engine = kind(directory / kind.name.lower())
            stack.callback(engine.stop)
            try:
                engine.start()
                engine.client().run("load", "--input", str(BUSYBOX_ARCHIVE))
            except RuntimeError as error:
                print(f"without {kind.name}: {error}", file=sys.stderr)
                continue
            started.append(engine)
        yield started


def _clients(engine: Engine) -> list[Client]:
    return [engine.client(), engine.docker_client()] if isinstance(engine, Wherry) else [engine.client()]


def _measure(workload: Workload, clients: Sequence[Client], rounds: int | None) -> dict[str, float]:
    """The median of each client. They take turns, one round after the other."""
    print(f"{workload.name} …", file=sys.stderr, flush=True)
    if workload.by_own_client_only:
        clients = [client for client in clients if client.name == client.engine.name]
    figures: dict[str, list[float]] = {client.name: [] for client in clients}
    rounds = rounds or workload.rounds
    if workload.setting_is_shared:
        pass
    return {name: statistics.median(values) for name, values in figures.items() if values}
