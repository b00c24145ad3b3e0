"""Capabilities, once dropped, stay dropped: through exec, for root and others, and with files that give them back."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence

import pytest

from wherry.linux import capabilities

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")

KEEP = ("CAP_CHOWN", "CAP_KILL", "CAP_CHECKPOINT_RESTORE")
NAMES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def after(
    work: Callable[[], object], command: Sequence[str] = ("cat", "/proc/self/status")
) -> dict[str, tuple[str, ...]]:
    """The five sets of a program that is started after the work."""
    output = subprocess.run(command, preexec_fn=work, capture_output=True, text=True, check=True).stdout
    lines = dict(line.split(":\t") for line in output.splitlines() if line.startswith("Cap"))
    return {name: capabilities.from_mask(int(lines[name], 16)) for name in NAMES}


def become(uid: int, ambient: bool = False) -> Callable[[], None]:
    def work() -> None:
        capabilities.drop_bounding(KEEP)
        capabilities.keep_through_setuid()
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        capabilities.set_process(KEEP, ambient)

    return work


@pytest.fixture(autouse=True)
def _enough() -> None:
    if not set(KEEP) <= set(capabilities.available()):
        pytest.skip("this root has not got what the test keeps")


def test_root_has_what_is_kept_and_no_more() -> None:
    """A hole: root gets a capability back by executing a program, as it does while the bounding set is full."""
    sets = after(become(0))
    assert sets == {"CapInh": (), "CapPrm": KEEP, "CapEff": KEEP, "CapBnd": KEEP, "CapAmb": ()}


def test_another_user_has_none() -> None:
    """A hole: a program of another user has a capability, or a file could give it one that was dropped."""
    sets = after(become(65534))
    assert sets == {"CapInh": (), "CapPrm": (), "CapEff": (), "CapBnd": KEEP, "CapAmb": ()}


def test_another_user_has_ambient_ones() -> None:
    """Of those that were asked for a user has exactly these. A hole is one more."""
    sets = after(become(65534, ambient=True))
    assert set(sets.values()) == {KEEP}


def test_nothing_can_be_kept_that_is_not_there() -> None:
    """A hole: to ask for all of them gives more than this process has itself."""

    def work() -> None:
        capabilities.set_process(("CAP_CHOWN",))
        capabilities.set_process(capabilities.NAMES)

    sets = after(work, ("cat", "/proc/self/status"))
    assert set(sets["CapEff"]) == set(capabilities.available())  # exec as root: the bounding set was left as it is


def test_a_set_user_id_program_brings_back_no_more_than_was_kept() -> None:
    """A hole: a set-user-ID program of the image is root with all capabilities."""
    with tempfile.TemporaryDirectory() as directory:
        if os.statvfs(directory).f_flag & os.ST_NOSUID:
            pytest.skip("set-user-id is off there")
        os.chmod(directory, 0o755)
        cat = f"{directory}/cat"
        shutil.copy("/bin/cat", cat)
        os.chmod(cat, 0o4755)
        sets = after(become(65534), (cat, "/proc/self/status"))
    assert sets["CapPrm"] == sets["CapEff"] == KEEP
