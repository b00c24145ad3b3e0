import pytest

from wherry.network import bridge
from wherry.network.bridge import BridgeError, BridgePorts, Device

FIRST = Device("br-0123456789ab", "0123456789abcdef", 1450, ("10.1.0.1/24",))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """What is asked of the kernel, which gives a bridge two ports."""
    found: list[Device] = []
    monkeypatch.setattr(bridge, "PORTS", 2)
    monkeypatch.setattr(bridge, "make", found.append)
    monkeypatch.setattr(bridge, "join", lambda first, other, pair: None)
    return found


def test_a_bridge_is_filled_before_there_is_another(made: list[Device]) -> None:
    ports = BridgePorts()
    assert [ports.take(FIRST) for _ in range(4)] == [FIRST.name] * 2 + ["br1-0123456789"] * 2
    assert set(made) == {Device("br1-0123456789", FIRST.network_id, 1450, ())}
    assert ports.is_extended(FIRST.network_id)
    ports.release(FIRST.name)
    assert ports.take(FIRST) == FIRST.name


def test_ports_of_containers_that_run_are_not_taken_again(made: list[Device]) -> None:
    ports = BridgePorts()
    for name in (FIRST.name, FIRST.name, "br1-0123456789"):
        ports.adopt(name)
    assert [ports.take(FIRST), ports.take(FIRST)] == ["br1-0123456789", "br2-0123456789"]


def test_a_network_that_is_full_says_so(made: list[Device]) -> None:
    ports = BridgePorts()
    for _ in range(42):
        assert len(ports.take(FIRST)) <= 15
    with pytest.raises(BridgeError, match="no room for more"):
        ports.take(FIRST)
