"""The short form of ``make soak``."""

import pytest

from tests.soak.run import soak
from tests.support.engine import Engine


@pytest.mark.timeout(600)  # an engine that answers late is not what is looked for
def test_what_is_killed_under_clients_leaves_no_wrong_answer_and_no_trace(own_engine: Engine) -> None:
    report = soak(own_engine, 12, clients=6, pause=0.6)
    print(report)
    assert not report.wrong, report
    assert report.kills["daemon"] and report.operations["start"]
