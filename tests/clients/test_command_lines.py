"""The same command line given to docker and to wherry: the same requests, the same words, the same exit code.

Both talk to an engine that refuses every container, and keeps what it was asked.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from tests.support.engine import docker_version
from tests.support.scripted_engine import Request, ScriptedEngine, error, json_answer
from wherry.cli import main

DOCKER = shutil.which("docker")
VERSION = docker_version(DOCKER) if DOCKER else ()
pytestmark = pytest.mark.skipif(VERSION[:1] != (28,), reason=f"no docker CLI 28, but {VERSION or 'none'}")

# Debian builds docker with libraries of other versions than Docker does. They word these in their own way.
_OTHERWISE_BY_DEBIAN = frozenset(
    """\
--use-api-socket
-p 80 -p 81:82 -p 127.0.0.1:83:84/udp -p 85-87:95-97 -p 100-110:99 -p [::1]:5:6 -p ::1:7:8 -p 9/SCTP
exec -d -e A=1 -e FROM_HERE -u x -w /y --privileged box ls
-p abc
-p 1:2:3:4:5
-p 80-81:80-83
-p 1.2.3:80:80
-p [1:80:80
-p 80/foo
-p a=b
-p foo,
-p ''
-p 70000:80
--expose 90-80
diff ''
""".splitlines()
)


def _skip_on_debian(line: str) -> None:
    if line in _OTHERWISE_BY_DEBIAN and DOCKER and b"+dfsg" in subprocess.check_output([DOCKER, "--version"]):
        pytest.skip("Debian's docker is built with other libraries, which do this in their own way")


class Outcome(NamedTuple):
    code: int
    output: str
    errors: str
    requests: list[Request]


class Both:
    """Runs docker and wherry in the same surroundings."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.engine = ScriptedEngine()
        self.engine.on("POST", "/containers/create", error(409, "refused"))
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "DOCKER_CONFIG": str(directory),
            "DOCKER_HOST": self.engine.host,
            "FROM_HERE": "here",
        }

    def outcomes(self, line: str) -> tuple[Outcome, Outcome]:
        words = shlex.split(line)
        return self._docker(words), self._wherry(words)

    def _docker(self, words: list[str]) -> Outcome:
        assert DOCKER is not None
        done = subprocess.run(
            [DOCKER, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.directory,
            timeout=60,
        )
        return Outcome(done.returncode, done.stdout, done.stderr, self._requests())

    def _wherry(self, words: list[str]) -> Outcome:
        """In this process, which is ten times faster."""
        output, errors = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment, clear=True),
            contextlib.chdir(self.directory),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            code = main.run(words)
        return Outcome(code, output.getvalue(), errors.getvalue(), self._requests())

    def _requests(self) -> list[Request]:
        requests = [request for request in self.engine.requests if request.endpoint != "/_ping"]
        self.engine.requests.clear()
        return requests


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    directory = tmp_path_factory.mktemp("here")
    (directory / "good.env").write_text("# comment\n\nA=1\n  B=two words \nFROM_HERE\nNOT_HERE\n")
    (directory / "spaces.env").write_text("A=1\nB C=2\n")
    (directory / "nameless.env").write_text("=x\n")
    (directory / "binary.env").write_bytes(b"A=\xff\n")
    (directory / "labels").write_text("l1=v1\nl2\n")
    (directory / "seccomp.json").write_text('{ "defaultAction":\n "SCMP_ACT_ALLOW" }')
    (directory / "broken.json").write_text("{")
    (directory / "id").write_text("x")
    both = Both(directory)
    yield both
    both.engine.close()


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """What docker sends in the random order of its maps, in order."""
    for holder, key in ((body, "Env"), (body["HostConfig"], "Binds")):
        if holder[key]:
            holder[key] = sorted(holder[key])
    return body


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "-i",
        "-t",
        "-it",
        "--rm --name box",
        "-a stdin -a STDERR",
        "-i -a stdout",
        "--hostname h --domainname d -u 1:2 -w /w --entrypoint e",
        "--entrypoint=",
        "--entrypoint ''",
        "-e A=1 -e B= -e FROM_HERE -e NOT_HERE -e A=2",
        "--env-file good.env -e A=2",
        "-l a=b -l c --label d=e=f",
        "--label-file labels -l l1=x",
        "-v /a:/b -v c:/d:ro -v /e -v ./rel:/f -v ~/x:/y -v a -v ab -v /a:/b",
        "-v 'c:\\x:/y'",
        "--tmpfs /a --tmpfs /b:size=1m,mode=700",
        "--mount type=bind,src=/a,dst=/b",
        "--mount type=bind,source=./a,target=/b,readonly,bind-propagation=rslave,bind-recursive=disabled",
        "--mount type=bind,src=/a,dst=/b,ro,bind-recursive=writable",
        "--mount type=bind,src=/a,dst=/b,ro,bind-recursive=readonly,bind-propagation=rprivate",
        "--mount type=bind,src=/a,dst=/b,bind-recursive=enabled,consistency=Cached",
        "--mount src=v,dst=/b,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=o=x,volume-opt=type=nfs",
        "--mount src=v,dst=/b,volume-nocopy=false,volume-subpath=x",
        "--mount type=tmpfs,dst=/b,tmpfs-size=1.5m,tmpfs-mode=1770",
        "--mount type=tmpfs,dst=/b --mount dst=/c",
        "--mount type=image,src=x,dst=/b,image-subpath=y",
        "--mount 'type=bind,\"src=/a,b\",dst=/c'",
        "-p 80 -p 81:82 -p 127.0.0.1:83:84/udp -p 85-87:95-97 -p 100-110:99 -p [::1]:5:6 -p ::1:7:8 -p 9/SCTP",
        "-p published=8080,target=80 -p target=81,published=8081,protocol=udp",
        "-p 80 -p 81:80 -p 82:80",
        "--expose 90 --expose 91-93/udp -p 90:90 -P",
        "--link a --link b:c",
        "--network n1",
        "--network host",
        "--net none",
        "--network container:x",
        "--network n1 --network-alias a --net-alias b --link x:y",
        "--network n1 --ip 10.0.0.2 --ip6 fd::2 --mac-address 92:d0:c6:0a:29:33 --link-local-ip 169.254.1.1",
        "--mac-address 92:d0:c6:0a:29:33",
        "--ip 10.0.0.2",
        "--network name=n1,alias=a,alias=B,ip=10.0.0.2,ip6=fd::2,driver-opt=a=b,gw-priority=-3",
        "--network name=n1,link-local-ip=169.254.1.1",
        "--network name=n1,mac-address=92:d0:c6:0a:29:33 --network n2",
        "--network n1 --network n2 --network-alias x",
        "--add-host a:1.2.3.4 --add-host b=::1 --add-host c:[::2] --add-host d:host-gateway",
        "--dns 1.1.1.1 --dns 2001:DB8::0:1 --dns-search example.com --dns-search . --dns-opt ndots:1 --dns-option x",
        "-m 512m --memory-reservation 100M --memory-swap -1 --memory-swappiness 10 --shm-size 1g",
        "--memory-swap 1gb --memory 1.5GiB",
        "--memory 100 --memory-reservation 10b",
        "--cpus 1.5 --cpu-shares 0x10 --cpu-period 1000 --cpu-quota 010 --cpuset-cpus 0-1 --cpuset-mems 0",
        "--cpus .5 -c 3 --cpu-rt-period 5 --cpu-rt-runtime 6",
        "--cpus 1/4",
        "--pids-limit -1 --oom-kill-disable --oom-score-adj -500 --blkio-weight 100",
        "--blkio-weight-device /dev/sda:100 --device-read-bps /dev/sda:1mb --device-write-iops /dev/sda:50",
        "--device-read-iops /dev/a:1 --device-read-iops /dev/b:2 --device-write-bps /dev/sda:1",
        "--ulimit nofile=10:20 --ulimit core=-1 --ulimit nproc=5 --ulimit nofile=30",
        "--device /dev/a --device /dev/b:/dev/c --device /dev/d:/dev/e:r --device /dev/f:rw --device //dev/./g/",
        "--device vendor.com/class=name --device vendor.com/class=other --device /dev/x",
        "--device-cgroup-rule 'c 1:* rwm'",
        "--gpus all",
        "--gpus 2",
        "--gpus device=0",
        "--gpus '\"device=0,1\",capabilities=compute,options=a=b'",
        "--gpus driver=nvidia,count=3",
        "--cap-add NET_ADMIN --cap-drop all --privileged --read-only --group-add g --group-add 5",
        "--security-opt no-new-privileges --security-opt apparmor=x --security-opt label:disable",
        "--security-opt systempaths=unconfined --security-opt seccomp=unconfined",
        "--security-opt seccomp=seccomp.json",
        "--storage-opt size=1G --volume-driver x --volumes-from a --volumes-from b:ro",
        "--log-driver json-file --log-opt max-size=1m --log-opt tag=x",
        "--pid host --uts host --userns host --cgroupns private --ipc shareable --cgroup-parent /x --isolation default",
        "--pid container:x --runtime runc --sysctl net.ipv4.ip_forward=1 --sysctl kernel.sem=1",
        "--annotation a=b --annotation c",
        "--restart always",
        "--restart on-failure:3",
        "--restart ''",
        "--restart unless-stopped:",
        "--rm --restart no",
        "--init",
        "--init=false",
        "--stop-signal TERM --stop-timeout 0",
        "--stop-timeout 5",
        "--health-cmd 'a b' --health-interval 1m30s --health-timeout 1.5s --health-retries 3",
        "--health-start-period 100ms --health-start-interval 2h",
        "--health-interval 0",
        "--no-healthcheck",
        "--cidfile new-id",
        "--platform linux/amd64",
        "--pull missing --quiet",
        "--disable-content-trust",
        "-im100m",
        "-m=100m -e=A=1",
        "-eA=1",
        "--use-api-socket",
    ],
)
@pytest.mark.parametrize("command", ["create", "run"])
def test_the_request_for_a_container(both: Both, command: str, flags: str) -> None:
    _skip_on_debian(flags)
    line = f"{command} {flags} image arg --rm -x"
    if command == "run" and ("-t" in flags or "-it" in flags):  # there is no terminal here
        line = line.replace("run", "run -d", 1)
    docker, wherry = both.outcomes(line)
    assert wherry.code == docker.code
    assert wherry.errors.replace("wherry", "docker") == docker.errors
    [ours], [theirs] = wherry.requests, docker.requests
    assert ours.query == theirs.query
    assert plain(ours.json) == plain(theirs.json)


@pytest.mark.parametrize(
    "line",
    [
        "exec box ls -l",
        "exec -d -e A=1 -e FROM_HERE -u x -w /y --privileged box ls",
        "exec -i --env-file good.env --detach-keys a,b box ls",
        "stop box",
        "stop -t 5 -s INT box",
        "stop -t -1 box",
        "restart -t 0 box",
        "kill box",
        "kill -s HUP box",
        "pause box",
        "unpause box",
        "rm box",
        "rm -f -v -l /box",
        "rename a b",
        "start box",
        "top box",
        "top box aux --sort pid",
        "diff box",
        "export box",
        "update --cpus 1.5 -m 100m --restart always --pids-limit 5 box",
        "update --kernel-memory 1m --cpuset-cpus 0 --blkio-weight 20 box",
        "commit box",
        "commit -m hi -a me -c 'ENV A=b' -c 'CMD x' -p=false box name",
        "commit box host:5000/a/b:tag",
        "container stop box",
        "container remove box",
    ],
)
def test_the_requests_of_other_commands(both: Both, line: str) -> None:
    _skip_on_debian(line)
    both.engine.on("GET", "/containers/[^/]+/json", json_answer({"Id": "box"}))
    docker, wherry = both.outcomes(line)
    ours = [request for request in wherry.requests if request.body or request.method != "GET" or "top" in request.path]
    # docker looks at the container before an exec, only to say early that there is none.
    theirs = [request for request in docker.requests if not request.endpoint.endswith("box/json")]
    assert len(theirs) == 1
    for ours_one, theirs_one in zip(ours or wherry.requests, theirs, strict=True):
        assert (ours_one.method, ours_one.endpoint) == (theirs_one.method, theirs_one.endpoint)
        given = {key: value for key, value in theirs_one.query.items() if value != [""]}
        assert {key: value for key, value in ours_one.query.items() if value != [""]} == given
        if theirs_one.body:
            mine, its = ours_one.json, theirs_one.json
            assert {**mine, "Env": sorted(mine.get("Env") or [])} == {**its, "Env": sorted(its.get("Env") or [])}


CREATE_ERRORS = """\
--foo
-z
--memory
-m
-m abc
-m 5x
-m 5mbb
-m 5xbbb
--memory -5m
--memory ''
--cpus x
--cpus 1.0000000001
-p abc
-p 1:2:3:4:5
-p 80-81:80-83
-p 1.2.3:80:80
-p [1:80:80
-p 80/foo
-p a=b
-p foo,
-p a=b,c
-p ''
-p 70000:80
--expose 80:80
--expose x
--expose 90-80
-v ''
-v a:b:c:d
-v a:
-v :a
--mount foo
--mount ''
--mount type=bind
--mount type=,dst=/x
--mount 'type=bind,"src=a'
--mount 'type=bind,sr"c=a'
--mount 'type=bind,"src=a"b'
--mount type=tmpfs,dst=/x,src=y,volume-opt=a
--mount type=volume,dst=/x,tmpfs-size=1
--mount type=volume,dst=/x,image-subpath=1
--mount type=volume,dst=/x,bind-nonrecursive
--mount type=bind,dst=/x,bind-recursive=foo
--mount type=bind,dst=/x,bind-recursive=writable
--mount type=bind,dst=/x,bind-recursive=readonly
--mount type=bind,dst=/x,ro,bind-recursive=readonly
--mount type=bind,dst=/x,ro=maybe
--mount type=bind,dst=/x,tmpfs-size=maybe
--mount type=bind,dst=/x,tmpfs-mode=9
--mount type=bind,dst=/x,foo=maybe
--mount type=bind,dst=/x,volume-nocopy=maybe
--network name=foo,x=y
--network foo=bar
--network alias=bar
--network name=foo,gw-priority=x
--network name=foo,driver-opt=x
--network a --network a
--network a --network host
--network host --network-alias x
--network name=a,alias=b --network-alias c
--network name=a,ip=1.1.1.1 --ip 1.1.1.2
--gpus x
--gpus all,all
--gpus foo=bar
--gpus count=x
--ulimit foo
--ulimit foo=1
--ulimit nofile=x
--ulimit nofile=2:1
--ulimit nofile=-1:1
--ulimit nofile=1:2:3
--device foo
--device /a:/b:c
--device /a:/b:c:d
--device :/b
--device-cgroup-rule foo
--device-read-bps foo
--device-read-bps foo:1
--device-read-bps /dev/x:1x
--device-read-iops /dev/x:1x
--blkio-weight-device /dev/x:1
--blkio-weight 99999
--blkio-weight -1
--cpu-shares x
--cpu-shares 99999999999999999999
--cpu-shares 1_0x
--cpu-shares ' 1'
--cpu-count 3
--io-maxiops 3
--pid foo
--pid container:
--uts foo
--cgroupns foo
--restart :3
--restart always:x
--rm --restart always
--no-healthcheck --health-cmd x
--health-interval -1s
--health-interval 1
--health-interval 1x
--health-interval ''
--health-interval 1..5s
--health-retries -1
--memory-swappiness 101
--memory-swappiness -2
--log-driver none --log-opt a=b
--security-opt foo
--security-opt seccomp=
--security-opt seccomp=/nope
--storage-opt foo
--sysctl foo=bar
--sysctl foo
-e ''
-e =x
-l ''
-l 'a b=c'
-l =x
--env-file /nope
--env-file .
--env-file spaces.env
--env-file nameless.env
--env-file binary.env
--label-file spaces.env
--add-host foo
--add-host foo:bar
--add-host =1.1.1.1
--dns foo
--dns 1.1.1.300
--dns-search a_b
--dns-search 1.2
--link a:b:c
--link ''
--mac-address foo
-a foo
--pull foo
--cidfile /nope/x
--cidfile id
--init=maybe
--rm=false=x
--=x
---x
--label
-ie
"""


@pytest.mark.parametrize("command", ["create", "run"])
@pytest.mark.parametrize("flags", CREATE_ERRORS.splitlines())
def test_wrong_flags_of_create_and_run(both: Both, command: str, flags: str) -> None:
    _skip_on_debian(flags)
    same(both, f"{command} {flags} image")


OTHER_ERRORS = """\
foo
container foo
container --foo
--foo
-x
run
run -d -a stdin image
run -t -i image
run x:y:z
run Upper
run a//b
run a@sha256:12
run host:port/x
create Upper
create
exec
exec foo
exec -t
exec -e '' foo bar
exec --env-file /nope foo bar
attach
attach foo bar
start
start -a foo bar
stop
stop -t x foo
stop --time 1 --timeout 2 foo
kill -s
restart
pause
rm
rm /
rename '' b
rename a
wait
update foo
update --restart always:x foo
update --cpus x foo
port a b c
logs
logs a b
top
diff ''
diff
commit
commit foo Bar
commit foo a:b:c
commit a b c
commit foo a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
commit foo e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
export
export -o /nope/x foo
-H foo -c bar run x
-c nope rm x
-H unix:///nope.sock rm x
-H unix:///nope.sock run x
-H unix:///nope.sock start x
-H tcp://127.0.0.1:1 rm x
-l foo rm x
help foo
help run foo
logs --since x foo
"""


@pytest.mark.parametrize("line", OTHER_ERRORS.splitlines())
def test_other_wrong_command_lines(both: Both, line: str) -> None:
    _skip_on_debian(line)
    both.engine.on("GET", "/containers/[^/]+/json", json_answer({"Id": "box"}))
    same(both, line)


HELP = (
    "attach commit create diff exec export kill logs pause port rename restart rm run start stop top unpause update "
    "wait"
)


@pytest.mark.parametrize("command", HELP.split())
def test_help(both: Both, command: str) -> None:
    same(both, f"{command} --help")
    same(both, f"help {command}")


def test_help_asked_for_in_the_old_way(both: Both) -> None:
    same(both, "stop -h")


# What a help tells of flags that docker's has not: a line each, and what is left of it in the next ones.
_OWN_FLAGS = re.compile(r"^ +--[ug]idmap list .*\n(?: {20,}.*\n)*", re.MULTILINE)


def same(both: Both, line: str) -> None:
    docker, wherry = both.outcomes(line)
    assert wherry.code == docker.code
    assert _OWN_FLAGS.sub("", wherry.output).replace("wherry", "docker") == docker.output
    errors = wherry.errors.replace("wherry", "docker")
    # docker's own name for what is on the other side.
    theirs = re.sub(r"\bDocker daemon at", "docker daemon at", docker.errors)
    assert errors == theirs
    assert len(wherry.requests) <= len(docker.requests)
