"""Which settings of the kernel a container may have: those of namespaces that are its own."""

import pytest

from wherry.common.errors import InvalidParameter
from wherry.engine.container.config import check_sysctls, complete_sysctls
from wherry.model.container import HostConfig


@pytest.mark.parametrize(
    ("name", "modes"),
    [
        ("vm.swappiness", {}),
        ("vm/swappiness", {}),
        ("kernel.hostname", {}),
        ("kernel.core_pattern", {}),
        ("net.ipv4.ip_forward", {"network_mode": "host"}),
        ("net/ipv4/ip_forward", {"network_mode": "host"}),
        ("kernel.shmmax", {"ipc_mode": "host"}),
        ("fs.mqueue.msg_max", {"ipc_mode": "host"}),
        ("kernel.domainname", {"uts_mode": "host"}),
        ("kernel.domainname", {"network_mode": "host"}),
    ],
)
def test_what_is_the_hosts_is_refused(name: str, modes: dict[str, str]) -> None:
    with pytest.raises(InvalidParameter, match=r"not allowed in host|not in a separate kernel namespace"):
        check_sysctls(HostConfig(sysctls={name: "1"}, **modes))


def test_what_is_a_containers_own_is_taken() -> None:
    names = ("net.ipv4.ip_forward", "kernel.shmmax", "fs.mqueue.msg_max", "kernel.domainname")
    check_sysctls(HostConfig(sysctls=dict.fromkeys(names, "1")))
    check_sysctls(HostConfig(sysctls={"net.core.somaxconn": "1"}, network_mode="container:other"))


def test_without_a_network_of_its_own_nothing_is_added() -> None:
    assert complete_sysctls(HostConfig(network_mode="host")) == {}
    assert complete_sysctls(HostConfig(sysctls={"net.core.somaxconn": "1"})).keys() >= {
        "net.core.somaxconn",
        "net.ipv4.ip_unprivileged_port_start",
    }
