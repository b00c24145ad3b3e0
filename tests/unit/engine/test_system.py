"""What the engine says of itself."""

import json
import os

from tests.support.api_definition import ApiDefinition
from tests.support.bare_engine import BareEngine
from wherry.model.container import Status


async def test_info_counts(bare: BareEngine, api_definition: ApiDefinition) -> None:
    await bare.run("runs")
    await bare.create("made")
    await bare.run("paused")
    bare.live("paused").record.state.status = Status.PAUSED
    found = bare.engine.system.info()
    api_definition.check("GET", "/info", 200, found)
    counted = [found[f"Containers{how}"] for how in ("", "Running", "Paused", "Stopped")]
    assert (counted, found["Images"]) == ([3, 1, 1, 1], 1)
    assert found["DockerRootDir"] == bare.config.data_root
    assert any("No firewall rules are made" in warning for warning in found["Warnings"])
    assert found["NEventsListener"] == 0
    assert found["CDISpecDirs"] == ["/etc/cdi", "/var/run/cdi"]
    assert found["DriverStatus"][0][1] not in ("unknown", "ext4")
    assert ["Supports d_type", "true"] in found["DriverStatus"]
    assert "none" not in found["Plugins"]["Log"]
    bare.live("paused").record.state.status = Status.RUNNING


async def test_security_options_are_those_that_hold_by_default(bare: BareEngine) -> None:
    """Of cgroup namespaces it depends on what containers get that say nothing of them."""
    config = bare.engine.config
    for mode, expected in (("private", True), ("host", False)):
        config.default_cgroupns_mode = mode
        assert ("name=cgroupns" in bare.engine.system.info()["SecurityOptions"]) == expected


async def test_the_runtimes_say_what_they_can_do(bare: BareEngine) -> None:
    """The kubelet looks for "rro" in it, cri-dockerd in the runtime that is the default."""
    info = bare.engine.system.info()
    status = info["Runtimes"][info["DefaultRuntime"]]["status"]
    features = json.loads(status["org.opencontainers.runtime-spec.features"])
    assert {"rro", "rbind", "nosuid", "rslave", "rnodev"} <= set(features["mountOptions"])
    assert features["hooks"] == ["createContainer"]
    assert features["linux"]["namespaces"] == ["cgroup", "ipc", "mount", "network", "pid", "uts"]
    assert "CAP_SYS_ADMIN" in features["linux"]["capabilities"]
    assert "SCMP_ACT_ERRNO" in features["linux"]["seccomp"]["actions"]


async def test_the_id_stays(bare: BareEngine) -> None:
    before = bare.engine.system.info()["ID"]
    await bare.reopen()
    assert bare.engine.system.info()["ID"] == before


async def test_version(bare: BareEngine, api_definition: ApiDefinition) -> None:
    found = bare.engine.system.version()
    api_definition.check("GET", "/version", 200, found)
    assert found["KernelVersion"] == os.uname().release
