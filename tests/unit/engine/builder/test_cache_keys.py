"""The cache's keys: what they depend on, and what not."""

from hypothesis import given
from hypothesis import strategies as st

from wherry.dockerfile import instructions as ins
from wherry.dockerfile.instructions import Pair
from wherry.engine.builder import history
from wherry.engine.builder.steps import step_inputs, step_key
from wherry.model.container import ContainerConfig, HealthConfig


def test_a_key_is_the_same_everywhere() -> None:
    """A change of this digest makes every cache there is worthless: count up the version on purpose only."""
    assert step_key("sha256:parent", step_inputs("run", words=["/bin/sh", "-c", "true"])) == (
        "8d19ce64709f2d49f1ff67cffcca39d5e8d6d53df13bd1f6d6e3ada07353fa2c"
    )


def test_the_order_of_a_mapping_does_not_count() -> None:
    assert step_inputs("run", arguments={"a": "1", "b": "2"}) == step_inputs("run", arguments={"b": "2", "a": "1"})


def test_everything_else_counts() -> None:
    keys = {
        step_key("", step_inputs("run", words=["a"])),
        step_key("sha256:other", step_inputs("run", words=["a"])),
        step_key("", step_inputs("copy", words=["a"])),
        step_key("", step_inputs("run", words=["a", ""])),
        step_key("", step_inputs("run", words="a")),
        step_key("", step_inputs("run", words=["a"], user="")),
    }
    assert len(keys) == 6


@given(st.lists(st.text()), st.lists(st.text()))
def test_words_are_not_run_together(one: list[str], other: list[str]) -> None:
    assert (step_inputs("run", words=one) == step_inputs("run", words=other)) == (one == other)


def test_history_reads_as_buildkit_writes_it() -> None:
    config = ContainerConfig(
        cmd=["/bin/sh", "-c", 'echo "hi"'],
        exposed_ports={"80/tcp": {}, "53/udp": {}},
        healthcheck=HealthConfig(test=["CMD-SHELL", "true"], interval=90_000_000_000, retries=3),
    )
    assert history.configuration(ins.Cmd(command=ins.CommandLine(())), config) == (
        'CMD ["/bin/sh" "-c" "echo \\"hi\\""]'
    )
    assert history.configuration(ins.Expose(ports=()), config) == "EXPOSE map[53/udp:{} 80/tcp:{}]"
    assert history.configuration(ins.HealthCheck(test=()), config) == (
        'HEALTHCHECK &{["CMD-SHELL" "true"] "1m30s" "0s" "0s" "0s" \'\\x03\'}'
    )
    assert history.configuration(ins.Env(pairs=(Pair("a", "b c"),)), config) == "ENV a=b c"
    ran = history.run(["/bin/sh", "-c", "true"], {"A": "1", "B": ""})
    assert ran == "RUN |2 A=1 B= /bin/sh -c true # buildkit"
