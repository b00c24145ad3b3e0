"""`wherry system stop`: ends the engine that it would talk to, and nothing else."""

from tests.support.engine import Engine


def test_the_engine_ends_and_its_containers_run_on(own_engine: Engine) -> None:
    own_engine.wherry("run", "-d", "--name", "on", "busybox", "sleep", "600", check=True)
    number = own_engine.pid
    said = own_engine.wherry("system", "stop", check=True).stdout
    assert said == f"the engine has ended (process {number}); its containers run on\n"
    assert not own_engine.running
    assert own_engine.processes()
    assert own_engine.wherry("system", "stop", check=True).stdout == f"no engine is running at {own_engine.host}\n"
    own_engine.start()
    assert own_engine.wherry("ps", "--format", "{{.Names}}", check=True).stdout == "on\n"


def test_an_engine_of_another_machine_is_not_stopped(engine: Engine) -> None:
    said = engine.wherry("-H", "tcp://127.0.0.1:9", "system", "stop")
    assert said.returncode == 1
    assert "this has to be done on its own machine" in said.stderr
