"""Builds every case below tests/integration/builds with Docker, and writes down what came out: facts.json of the case.

    DOCKER=/usr/bin/docker DOCKER_HOST=unix:///var/run/docker.sock python scripts/build_facts.py [CASE…]

The tests build the same with wherry and compare. Docker needs the image busybox:latest of .cache/busybox.image.tar; its
BuildKit is used, whose rules are today's: DOCKER names a command line that has its client (20.10, or any with buildx).
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))

from tests.support.image_facts import facts, restore_modes  # noqa: E402  # the path has to be there first

DOCKER = os.environ.get("DOCKER", "docker")
CASES = PROJECT / "tests" / "integration" / "builds"
BASE = PROJECT / ".cache" / "busybox.image.tar"

_LIST = re.compile(r"\[\n[^][{}]*\]")


def main() -> None:
    subprocess.run([DOCKER, "load", "--quiet", "--input", BASE], check=True)
    for case in sorted(CASES.iterdir()):
        if (case / "Dockerfile").exists() and (len(sys.argv) < 2 or case.name in sys.argv[1:]):
            write(case)


def write(case: Path) -> None:
    restore_modes(case / "context")
    arguments = json.loads((case / "arguments.json").read_text()) if (case / "arguments.json").exists() else []
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory) / "image.tar"
        build = [DOCKER, "build", "--no-cache", "--quiet", "--network", "none", "--tag", "build-facts"]
        built = subprocess.run(
            [*build, *arguments, "--file", case / "Dockerfile", case / "context"],
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            print(f"{case.name}: {built.stderr.strip()[-600:]}")
            return
        subprocess.run([DOCKER, "save", "--output", archive, "build-facts"], check=True)
        text = json.dumps(facts(archive, BASE), indent=1)
        (case / "facts.json").write_text(_LIST.sub(_on_one_line, text) + "\n")
        print(case.name)


def _on_one_line(found: re.Match[str]) -> str:
    return json.dumps(json.loads(found[0]))


if __name__ == "__main__":
    main()
