"""What a client asks of the Dockerfile frontend, and which graphs are taken."""

import pytest

from wherry.buildkit import messages
from wherry.buildkit.definition import context_of, of_result, result_of
from wherry.buildkit.frontend import check_syntax, read_contexts, read_options
from wherry.common.errors import InvalidParameter, NotSupported
from wherry.model.container import Ulimit


def test_options() -> None:
    request = read_options(
        {
            "filename": "other.Dockerfile", "target": "last", "platform": "linux/arm64", "build-arg:A": "1",
            "label:b": "2", "add-hosts": "one=1.2.3.4,two=::1", "force-network-mode": "none", "shm-size": "1024",
            "no-cache": "One,two",
            "ulimit": "nofile=1:2,nproc=3", "cgroup-parent": "/x", "image-resolve-mode": "pull", "cache-from": "a,b",
            "cache-imports": '[{"Type":"registry","Attrs":{"ref":"c"}}]',
        },
        ("network.host",),
        None,
    )  # fmt: skip
    assert (request.dockerfile, request.target, request.platform) == ("other.Dockerfile", "last", "linux/arm64")
    assert (request.arguments, request.labels) == ({"A": "1"}, {"b": "2"})
    assert request.extra_hosts == ("one:1.2.3.4", "two:::1")
    assert (request.network, request.no_cache, request.no_cache_for) == ("none", False, ("one", "two"))
    assert request.limits.ulimits == (Ulimit("nofile", soft=1, hard=2), Ulimit("nproc", soft=3, hard=3))
    assert (request.limits.shm_size, request.limits.cgroup_parent, request.pull) == (1024, "/x", True)
    assert request.cache_from == ("a", "b", "c")
    assert request.given.allow == ("network.host",)
    assert read_options({"no-cache": ""}, (), None).no_cache


@pytest.mark.parametrize(
    ("options", "entitlements", "said"),
    [
        ({}, ("everything",), "unknown entitlement everything"),
        ({"shm-size": "-1"}, (), "invalid shm-size: -1"),
        ({"ulimit": "x"}, (), "invalid ulimit: x"),
        ({"cache-imports": "{"}, (), "cache-imports"),
        ({"cache-imports": '[{"Type":"s3"}]'}, (), "cache import of type s3"),
    ],
)
def test_what_cannot_be(options: dict[str, str], entitlements: tuple[str, ...], said: str) -> None:
    with pytest.raises((InvalidParameter, NotSupported), match=said):
        read_options(options, entitlements, None)


@pytest.mark.parametrize(
    "syntax",
    ["docker/dockerfile:1", "docker/dockerfile:1.7-labs", "docker.io/docker/dockerfile", "docker/dockerfile@sha256:ab"],
)
def test_own_syntax(syntax: str) -> None:
    check_syntax(f"# syntax={syntax}\nFROM scratch\n".encode(), "Dockerfile")


@pytest.mark.parametrize("syntax", ["else/frontend", "localhost:5000/docker/dockerfile:1"])
def test_another_syntax(syntax: str) -> None:
    with pytest.raises(NotSupported, match=f"syntax {syntax} is not supported"):
        check_syntax(f"# syntax={syntax}\nFROM scratch\n".encode(), "Dockerfile")


def test_contexts() -> None:
    inputs = {"0-base": of_result("sha256:ab")}
    options = {"context:Base": "input:0-base", "context:b::linux/amd64": "docker-image://b", "context": "ignored"}
    found = read_contexts(options, inputs)
    assert {name: result_of(address) or address for name, address in found.items()} == {
        "base": "sha256:ab",
        "b::linux/amd64": "docker-image://b",
    }
    with pytest.raises(InvalidParameter, match="there is no input gone"):
        read_contexts({"context:x": "input:gone"}, inputs)


def test_graphs() -> None:
    assert context_of(messages.Definition()) == ""
    graph = of_result("sha256:ab")
    graph.def_[0] = messages.Op(source=messages.SourceOp(identifier="local://x")).SerializeToString()
    with pytest.raises(InvalidParameter, match="not whole"):
        context_of(graph)
    two = messages.Op(inputs=[messages.Input(digest="sha256:00")], source=messages.SourceOp(identifier="x"))
    with pytest.raises((NotSupported, InvalidParameter)):
        context_of(messages.Definition(def_=[two.SerializeToString()]))
    with pytest.raises(InvalidParameter, match="cannot be read"):
        context_of(messages.Definition(def_=[b"\xff\xff"]))
