"""Docker's rules for --cap-add, --cap-drop and --privileged."""

import os

import pytest

from wherry.linux import capabilities
from wherry.linux.capabilities import DEFAULT, NAMES, CapabilityError, resolve


@pytest.fixture(autouse=True)
def _all_but_sys_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that gives us everything that it knows, except CAP_SYS_BOOT."""
    have = tuple(name for name in NAMES if name != "CAP_SYS_BOOT")
    monkeypatch.setattr(capabilities, "available", lambda: have)
    monkeypatch.setattr(capabilities, "last_cap", lambda: 40)


def test_names_are_at_their_numbers() -> None:
    assert len(NAMES) == 41
    assert (NAMES.index("CAP_SYS_ADMIN"), NAMES.index("CAP_SETFCAP"), NAMES[40]) == (21, 31, "CAP_CHECKPOINT_RESTORE")


def test_the_default_is_dockers_fourteen() -> None:
    assert len(DEFAULT) == len(set(DEFAULT)) == 14
    assert resolve([], []) == DEFAULT


@pytest.mark.parametrize("name", ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_Admin"])
def test_every_spelling(name: str) -> None:
    assert resolve([name], []) == (*DEFAULT, "CAP_NET_ADMIN")
    assert "CAP_MKNOD" not in resolve([], ["mknod"])


def test_adding_what_is_there_adds_nothing() -> None:
    assert resolve(["CHOWN"], []) == DEFAULT


def test_all_but_some() -> None:
    assert set(resolve(["ALL"], ["SYS_ADMIN"])) == set(NAMES) - {"CAP_SYS_ADMIN", "CAP_SYS_BOOT"}


def test_none_but_some() -> None:
    assert resolve(["CHOWN", "kill"], ["all"]) == ("CAP_CHOWN", "CAP_KILL")
    assert resolve([], ["ALL"]) == ()


def test_adding_wins_over_dropping() -> None:
    assert "CAP_CHOWN" in resolve(["CHOWN"], ["CHOWN"])
    assert set(resolve(["ALL"], ["ALL"])) == set(NAMES) - {"CAP_SYS_BOOT"}


def test_privileged_has_what_we_have_whatever_is_dropped() -> None:
    assert set(resolve([], ["ALL"], privileged=True)) == set(NAMES) - {"CAP_SYS_BOOT"}


def test_unknown_names_are_refused_in_dockers_words() -> None:
    with pytest.raises(CapabilityError, match=r'^unknown capability: "CAP_FLY"$'):
        resolve(["fly"], [])
    with pytest.raises(CapabilityError, match=r'^unknown capability: "CAP_CAP"$'):
        resolve([], ["cap"])


def test_what_we_do_not_have_is_refused_in_dockers_words() -> None:
    expected = 'capability not supported by your kernel or not available in the current environment: "CAP_SYS_BOOT"'
    with pytest.raises(CapabilityError, match=f"^{expected}$"):
        resolve(["sys_boot"], [])


def test_a_kernel_that_is_too_old_does_not_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "last_cap", lambda: 37)
    with pytest.raises(CapabilityError, match='unknown capability: "CAP_BPF"'):
        resolve(["BPF"], [])


def test_masks() -> None:
    assert capabilities.to_mask(["CAP_CHOWN", "CAP_SETFCAP", "CAP_CHECKPOINT_RESTORE"]) == 1 | 1 << 31 | 1 << 40
    assert capabilities.from_mask(1 | 1 << 40) == ("CAP_CHOWN", "CAP_CHECKPOINT_RESTORE")


def test_the_running_kernel_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with open("/proc/self/status") as status:
        effective = next(line.split()[1] for line in status if line.startswith("CapEff"))
    known = (1 << len(NAMES)) - 1
    assert capabilities.to_mask(capabilities.available()) == int(effective, 16) & known
    assert capabilities.last_cap() >= 37
    assert os.path.exists("/proc/sys/kernel/cap_last_cap")
