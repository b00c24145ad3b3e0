"""``python -m tests.soak MINUTES``: soaks an engine of its own and says what came of it."""

import argparse
import sys

from tests.soak.run import soak
from tests.support.engine import CACHE, Engine


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=5)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--pause", type=float, default=2, help="seconds between two kills, on the average")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    engine = Engine()
    try:
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        report = soak(engine, options.minutes * 60, clients=options.clients, seed=options.seed, pause=options.pause)
        print(report)
        if report.wrong:
            print(engine.log_text())
    finally:
        engine.discard()
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
