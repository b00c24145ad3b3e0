"""``python -m bench``: see ``--help``."""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import table
from bench.engines import BUSYBOX_ARCHIVE, Client, Engine, Wherry, installed
from bench.workloads import WORKLOADS, Workload


def main() -> None:
    options = _parse_options()
    if os.geteuid() != 0:
        sys.exit("bench: the engines need root")
    workloads = [workload for workload in WORKLOADS if options.only in workload.name]
    with _engines(options.engines) as engines:
        clients = [client for engine in engines for client in _clients(engine)]
        results = {workload.name: _measure(workload, clients, options.rounds) for workload in workloads}
    names = [client.name for client in clients]
    print(f"\n{_machine()}; medians\n\n{table.render(workloads, names, results)}")
    if options.json:
        options.json.write_text(json.dumps({"machine": _machine(), "results": results}, indent=2) + "\n")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure wherry beside Docker and Podman.")
    parser.add_argument(
        "--engines",
        nargs="+",
        default=["wherry", "docker", "podman"],
        metavar="NAME",
        choices=["wherry", "docker", "podman"],
        help="those to compare (default: all installed)",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only the workloads with this text in their name")
    parser.add_argument("--rounds", type=int, metavar="N", help="measure each workload N times")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the medians there, in seconds and bytes")
    return parser.parse_args()  # fmt: skip


@contextlib.contextmanager
def _engines(names: Sequence[str]) -> Iterator[list[Engine]]:
    """The engines, started and with busybox loaded. One that does not start is left out, with its reason."""
    started: list[Engine] = []
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wherry-bench-", dir="/var/tmp")))
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
    """The median of each client. They take turns, one round after the other; one that fails is left out."""
    print(f"{workload.name} …", file=sys.stderr, flush=True)
    figures: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        taking_part = [
            client
            for client in clients
            if not (workload.by_own_client_only and client.is_second)
            and not (workload.by_docker_cli_only and not client.is_docker_cli)
        ]
        for engine in {client.engine: None for client in taking_part}:
            try:
                stack.enter_context(workload.setting(engine.client()))
            except RuntimeError as error:
                print(f"  without {engine.name}: {error}", file=sys.stderr)
                taking_part = [client for client in taking_part if client.engine is not engine]
        for _ in range(rounds or workload.rounds):
            for client in list(taking_part):
                try:
                    figures.setdefault(client.name, []).append(workload.measure(client))
                except RuntimeError as error:
                    print(f"  without {client.name}: {error}", file=sys.stderr)
                    figures.pop(client.name, None)
                    taking_part.remove(client)
    return {name: statistics.median(values) for name, values in figures.items()}


def _machine() -> str:
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} processors, {ram:.0f} GB, {system}"


if __name__ == "__main__":
    main()
