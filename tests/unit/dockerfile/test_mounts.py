"""The keys of RUN's mounts, their defaults, and which belong to which type."""

import pytest

from wherry.dockerfile import instructions as ins
from wherry.dockerfile.expansion import expand
from wherry.dockerfile.instructions import Mount, parse_mount
from wherry.dockerfile.lexer import DockerfileError
from wherry.dockerfile.parser import parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,target=/a", {"target": "/a"}),
        ("target=/a", {"target": "/a"}),
        ("dst=/a,src=b,from=c", {"target": "/a", "source": "b", "source_stage": "c"}),
        ("destination=/a,rw", {"target": "/a", "read_only": False}),
        ("target=/a,readwrite=false", {"target": "/a"}),
        ("target=/a,ro=false", {"target": "/a", "read_only": False}),
        ("TYPE=Cache,target=/a", {"type": "cache", "target": "/a", "read_only": False}),
        (
            "type=cache,target=/a,id=x,sharing=locked,mode=0700,uid=1,gid=2,readonly",
            {"type": "cache", "target": "/a", "cache_id": "x", "sharing": "locked", "mode": 0o700, "uid": 1, "gid": 2},
        ),
        ("type=tmpfs,target=/a,size=64m", {"type": "tmpfs", "target": "/a", "read_only": False, "size": 64 << 20}),
        ("type=tmpfs,target=/a,size=1.5KiB", {"type": "tmpfs", "target": "/a", "read_only": False, "size": 1536}),
        ("type=secret,id=x", {"type": "secret", "cache_id": "x"}),
        (
            "type=secret,id=x,env=TOKEN,required,mode=400",
            {"type": "secret", "cache_id": "x", "environment": "TOKEN", "required": True, "mode": 0o400},
        ),
        ("type=secret,target=/run/x,required=true", {"type": "secret", "target": "/run/x", "required": True}),
        ("type=ssh", {"type": "ssh"}),
        ("type=ssh,id=default,required=0", {"type": "ssh", "cache_id": "default"}),
        ('type=bind,"source=a,b",target=/c', {"source": "a,b", "target": "/c"}),
        ("target=$X", {}),
        ("type=$T,uid=$U,target=/a", {"target": "/a"}),
    ],
)
def test_keys(text: str, expected: dict[str, object]) -> None:
    assert parse_mount(text) == Mount(text=text, **expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("type=volume", 'unsupported mount type "volume"'),
        ("type=secrt,id=a", r"expected bind, cache, tmpfs, secret or ssh"),
        ("target", "must be a key=value pair"),
        ("tagret=/a", r"unexpected key 'tagret' in 'tagret=/a' \(did you mean target\?\)"),
        ("target=/a,ro=perhaps", "invalid value for readonly: perhaps"),
        ("target=/a,rw=perhaps", "invalid value for readwrite: perhaps"),
        ("from=$x,target=/a", "'from' doesn't support variable expansion"),
        ("type=cache,target=/a,sharing=all", 'unsupported sharing value "all"'),
        ("target=/a,sharing=locked", "invalid cache sharing set for bind mount"),
        ("target=/a,required", "unexpected key 'required' for mount type 'bind'"),
        ("type=cache,target=/a,size=1", "unexpected key 'size' for mount type 'cache'"),
        ("type=tmpfs,target=/a,size=big", "invalid value for size: big"),
        ("target=/a,uid=1", 'uid not allowed for "bind" type mounts'),
        ("type=tmpfs,target=/a,mode=1", 'mode not allowed for "tmpfs" type mounts'),
        ("type=cache,target=/a,mode=8", "invalid value 8 for mode: expected an octal number"),
        ("type=cache,target=/a,uid=-1", "invalid value -1 for uid"),
        ("type=cache,target=/a,gid=99999999999", "invalid value 99999999999 for gid"),
        ("type=secret", "one of source, target required"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,sharing=shared", "secret mount should not define sharing"),
        ('target="/a', "failed to parse csv mounts"),
        ("", "failed to parse csv mounts: EOF"),
        ('"target=/a"b', "failed to parse csv mounts"),
    ],
)
def test_what_is_wrong_is_said(text: str, reason: str) -> None:
    with pytest.raises(DockerfileError, match=reason):
        parse_mount(text)


def test_values_are_expanded_when_the_build_gets_there() -> None:
    def expander(value: str) -> str:
        return expand(value, {"T": "cache", "U": "7"})

    mount = parse_mount("type=$T,uid=$U,target=/a", expander)
    assert (mount.type, mount.uid, mount.target, mount.read_only) == ("cache", 7, "/a", False)
    with pytest.raises(DockerfileError, match="uid not allowed"):
        parse_mount("uid=$U,target=/a", expander)


def test_a_run_has_all_of_its_mounts() -> None:
    text = "FROM a\nRUN --mount=type=cache,target=/x --mount='type=bind,source=a b,target=/c' make\n"
    assert isinstance(run := parse(text).instructions[1], ins.Run)
    assert [(mount.type, mount.source, mount.target) for mount in run.mounts] == [
        ("cache", "", "/x"),
        ("bind", "a b", "/c"),
    ]
