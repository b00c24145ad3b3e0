import json
from typing import Any

from tests.support.answering_engine import AnsweringEngine
from tests.unit.cli.conftest import Cli
from wherry.cli.stats import STATS, cpu_percent, memory, row_of

SAMPLE: dict[str, Any] = {
    "name": "/web",
    "id": "0123456789abcdef",
    "cpu_stats": {"cpu_usage": {"total_usage": 3_000}, "system_cpu_usage": 20_000, "online_cpus": 4},
    "precpu_stats": {"cpu_usage": {"total_usage": 1_000}, "system_cpu_usage": 10_000},
    "memory_stats": {"usage": 3 << 20, "limit": 64 << 20, "stats": {"total_inactive_file": 1 << 20}},
    "networks": {"eth0": {"rx_bytes": 1500, "tx_bytes": 2}, "eth1": {"rx_bytes": 500, "tx_bytes": 0}},
    "blkio_stats": {
        "io_service_bytes_recursive": [
            {"op": "Read", "value": 4096}, {"op": "write", "value": 1_000_000}, {"op": "Total", "value": 9}
        ]
    },
    "pids_stats": {"current": 7},
}  # fmt: skip


def test_what_a_sample_shows() -> None:
    row = row_of("web", SAMPLE, truncates=True)
    assert (row.field("ID"), row.field("Name")) == ("0123456789ab", "web")
    assert [row.field(name) for name in STATS.shown[2:]] == [
        "80.00%", "2MiB / 64MiB", "3.12%", "2kB / 2B", "4.1kB / 1MB", "7"
    ]  # fmt: skip


def test_without_a_sample_there_are_dashes() -> None:
    row = row_of("web", None, truncates=True)
    assert [row.field(name) for name in STATS.shown[1:]] == [
        "--", "--", "-- / --", "--", "--", "--", "--"
    ]  # fmt: skip


def test_a_container_that_does_not_run_is_nothing() -> None:
    stopped = {
        "cpu_stats": {},
        "precpu_stats": {},
        "memory_stats": {},
        "blkio_stats": {"io_service_bytes_recursive": None},
    }
    row = row_of("web", stopped, truncates=True)
    shown = [row.field(name) for name in ("CPUPerc", "MemUsage", "BlockIO", "PIDs")]
    assert shown == ["0.00%", "0B / 0B", "0B / 0B", "0"]


def test_processors_are_counted_where_the_engine_does_not_say() -> None:
    sample = {
        "cpu_stats": {"cpu_usage": {"total_usage": 10, "percpu_usage": [5, 5]}, "system_cpu_usage": 20},
        "precpu_stats": {"cpu_usage": {"total_usage": 0}, "system_cpu_usage": 0},
    }
    assert cpu_percent(sample) == 100.0
    assert cpu_percent({}) == 0.0


def test_memory_without_what_can_be_taken_back() -> None:
    assert memory({"memory_stats": {"usage": 10, "limit": 20, "stats": {"inactive_file": 4}}}) == (6, 20)
    assert memory({"memory_stats": {"usage": 3, "limit": 20, "stats": {"inactive_file": 4}}}) == (3, 20)


def test_one_look(answering_engine: AnsweringEngine, cli: Cli) -> None:
    answering_engine.answers["/containers/web/stats"] = json.dumps(SAMPLE)
    code, output, _ = cli("stats", "--no-stream", "--format", "{{.Container}} {{.CPUPerc}}", "web")
    assert (code, output) == (0, "web 80.00%\n")
    assert answering_engine.last.query["stream"] == ["0"]
    assert cli("stats", "--no-stream", "web", "nope")[::2] == (
        1,
        "Error response from daemon: No such container: nope\n",
    )
