"""What programs of a Kubernetes node look for on the disk: cAdvisor, which is in the kubelet, and cri-dockerd."""

import os

from tests.support.engine import Engine


def test_cadvisor_finds_the_writable_layer_and_cri_dockerd_the_images(own_engine: Engine) -> None:
    own_engine.docker("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo cargo >/hold; sleep 1000", check=True)
    inspected = own_engine.request("GET", "/containers/box/json").body
    info = own_engine.request("GET", "/info").body
    root, driver = info["DockerRootDir"], info["Driver"]
    with open(f"{root}/image/{driver}/layerdb/mounts/{inspected['Id']}/mount-id", encoding="ascii") as file:
        layer = f"{root}/{driver}/{file.read()}/diff"
    assert _files(layer) == {"hold"}
    data = inspected["GraphDriver"]["Data"]
    assert os.path.samefile(layer, data["UpperDir"])
    assert all(os.path.isdir(lower) for lower in data["LowerDir"].split(":"))
    assert os.path.isdir(f"{root}/containers/{inspected['Id']}")
    before = _files(f"{root}/image")
    own_engine.docker("rm", "-f", "box", check=True)
    assert not os.path.exists(layer)
    assert _files(f"{root}/image") == before == set(), "it is walked, and what is linked is not"


def _files(directory: str) -> set[str]:
    """As Go's filepath.Walk goes: not by links, neither from the start."""
    if os.path.islink(directory):
        return set()
    return {name for place, _, names in os.walk(directory) for name in names if not os.path.islink(f"{place}/{name}")}
