"""``python -m bench.files``: whether files of the host are as fast inside a container as outside.

The same script is run by the same busybox in the same folder: on the host, and in a container that has the folder
mounted. It times itself by the machine's uptime, so that neither a start nor a client counts. That goes by hundredths
of a second, so every work takes many of them; and the quickest round is what counts, as whatever else the machine does
only ever adds.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.engines import BUSYBOX, BUSYBOX_ARCHIVE, CACHE, Client, Wherry

ROUNDS = 5
GOAL = 0.97  # of the host's speed

# What was written before is on the disk first, so that one work does not pay for the other.
_TIMED = 'sync; read begun _ </proc/uptime; {work}; read ended _ </proc/uptime; echo "$begun $ended"'
WORK = {
    "small files, 30,000 made": "i=0; while [ $i -lt 30000 ]; do echo $i >f$i; i=$((i+1)); done",
    "small files, 300,000 read": "n=0; while [ $n -lt 10 ]; do cat f* >/dev/null; n=$((n+1)); done",
    "small files, 30,000 removed": "rm f*",
    "sequential write, 2 GB":
        "for n in 1 2 3 4; do dd if=/dev/zero of=big bs=5M count=100 conv=notrunc; done 2>/dev/null",
    "sequential read, 8 GB": "n=0; while [ $n -lt 16 ]; do dd if=big of=/dev/null bs=1M 2>/dev/null; n=$((n+1)); done",
}  # fmt: skip


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("bench: the engine needs root")
    with tempfile.TemporaryDirectory(prefix="wherry-files-", dir="/var/tmp") as directory:
        place = Path(directory) / "bound"
        place.mkdir()
        engine = Wherry(Path(directory) / "wherry")
        try:
            engine.start()
            client = engine.client()
            client.run("load", "--input", str(BUSYBOX_ARCHIVE))
            client.run("run", "--detach", "--name", "files", "--volume", f"{place}:/bound", "--workdir", "/bound",
                       BUSYBOX, "sleep", "1000000")  # fmt: skip
            _compare(place, client)
            client.run("rm", "--force", "files")
        finally:
            engine.stop()


def _compare(place: Path, client: Client) -> None:
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(ROUNDS):
        places = ("host", "container")
        for where in places if number % 2 else reversed(places):
            for name, work in WORK.items():
                seconds.setdefault((where, name), []).append(_time(where, work, place, client))
            (place / "big").unlink()
    print(f"\n{'work':30} {'host':>8} {'container':>10} {'speed':>7}")
    for name in WORK:
        host, container = (min(seconds[where, name]) for where in ("host", "container"))
        ratio = host / container if container else 1.0
        verdict = "" if ratio >= GOAL else f"  below {GOAL}"
        print(f"{name:30} {host:7.2f}s {container:9.2f}s {ratio:7.2f}{verdict}")


def _time(where: str, work: str, place: Path, client: Client) -> float:
    script = _TIMED.format(work=work)
    if where == "container":
        shown = client.run("exec", "files", "sh", "-c", script)
    else:
        command = [str(CACHE / "busybox"), "sh", "-c", script]
        shown = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True).stdout
    begun, ended = shown.split()
    return float(ended) - float(begun)


if __name__ == "__main__":
    main()
