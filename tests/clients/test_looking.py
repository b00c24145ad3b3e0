"""What looks and does not touch: ps, inspect, top, events, diff, port, info, version."""

import json
import re
import select
import time

from tests.clients.conftest import Cli


def test_ps_lists_what_runs(cli: Cli, busybox: str, sleeper: str) -> None:
    cli.ok("create", "--name", "made", busybox, "echo", "two words")
    header, line = cli.ok("ps").split("\n")
    assert header.split("  ")[0] == "CONTAINER ID"
    assert re.fullmatch(r'[0-9a-f]{12} +busybox:latest +"sh -c .trap .exit 0…" +.* ago +Up .*sleeper', line)
    assert cli.ok("ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}").split("\n")[0] == "made created Created"
    assert cli.ok("ps", "-a", "--no-trunc", "--format", "{{.Command}}").split("\n")[0] == "\"echo 'two words'\""
    assert len(cli.ok("ps", "-aq").split("\n")) == 2
    assert cli.ok("ps", "-l", "--format", "{{.Names}}") == "made"
    assert cli.ok("ps", "-n", "1", "--format", "{{.Names}}") == "made"


def test_ps_filters(cli: Cli, busybox: str, sleeper: str) -> None:
    cli("run", "--name", "failed", "-l", "kind=test", "-l", "two", busybox, "sh", "-c", "exit 3")
    cli("run", "--name", "fine", "-l", "kind=other", "-v", "/data", busybox, "true")

    def found(*filters: str) -> list[str]:
        options = [word for each in filters for word in ("--filter", each)]
        return cli.ok("ps", "-a", "--format", "{{.Names}}", *options).split()

    assert found("status=running") == ["sleeper"]
    assert found("status=exited") == ["fine", "failed"]
    assert found("exited=3") == ["failed"]
    assert found("label=kind") == ["fine", "failed"]
    assert found("label=kind=test", "label=two") == ["failed"]
    assert found("name=^f") == ["fine", "failed"]
    assert found("name=leep") == ["sleeper"]
    assert found("name=fine", "name=sleeper") == ["fine", "sleeper"]
    assert found("id=" + cli.inspect("fine", "{{.Id}}")[:8]) == ["fine"]
    assert found("before=failed") == ["sleeper"]
    assert found("since=failed") == ["fine"]
    assert found(f"ancestor={busybox}") == ["fine", "failed", "sleeper"]
    assert found("ancestor=absent") == []
    assert found("volume=/data") == ["fine"]
    assert found("health=none", "status=running") == ["sleeper"]
    assert "invalid filter" in cli.fails("ps", "--filter", "nosuch=1").lower()
    assert "invalid filter" in cli.fails("ps", "--filter", "status=nosuch").lower()


def test_ps_filters_by_ports(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "-p", "18099:80", "--expose", "82", "--name", "open", busybox, "sleep", "60")
    for wanted, found in [
        ("publish=18099", "open"), ("publish=18090-18100/tcp", "open"), ("publish=80", ""), ("publish=18099/udp", ""),
        ("expose=80", "open"), ("expose=82/tcp", "open"), ("expose=18099", ""),
    ]:  # fmt: skip
        assert cli.ok("ps", "--filter", wanted, "--format", "{{.Names}}") == found, wanted


def test_ps_as_json_and_with_sizes(cli: Cli, sleeper: str) -> None:
    listed = json.loads(cli.ok("ps", "--format", "json"))
    assert (listed["Names"], listed["State"], listed["Image"]) == ("sleeper", "running", "busybox:latest")
    cli.ok("exec", sleeper, "dd", "if=/dev/zero", "of=/big", "bs=1000", "count=1000")
    assert cli.ok("ps", "-s", "--format", "{{.Size}}").startswith("1MB (virtual ")


def test_inspect_with_a_template(cli: Cli, busybox: str) -> None:
    container = cli.ok("create", "--name", "made", "-e", "A=1", "-p", "8080:80", busybox, "echo", "hi")
    assert cli.inspect("made", "{{.Id}}") == container
    assert cli.inspect("made", "{{json .Config.Cmd}}") == '["echo","hi"]'
    assert cli.inspect("made", "{{range .Config.Env}}{{println .}}{{end}}").startswith("A=1\n")
    assert cli.inspect("made", '{{(index (index .HostConfig.PortBindings "80/tcp") 0).HostPort}}') == "8080"
    assert cli.inspect("made", "{{len .Args}} {{.Path}} {{.State.Status | upper}}") == "1 echo CREATED"
    assert json.loads(cli.ok("inspect", "made"))[0]["Id"] == container
    assert json.loads(cli.ok("container", "inspect", "-s", "made"))[0]["SizeRw"] == 0


def test_inspect_finds_images_and_volumes_too(cli: Cli, busybox: str) -> None:
    assert busybox in json.loads(cli.ok("inspect", busybox))[0]["RepoTags"]
    cli.ok("volume", "create", "inspected")
    assert json.loads(cli.ok("inspect", "inspected"))[0]["Name"] == "inspected"
    cli.ok("volume", "rm", "inspected")
    finished = cli("inspect", "absent")
    assert (finished.returncode, finished.stdout) == (1, "[]\n")
    assert "no such object: absent" in finished.stderr.lower()


def test_top(cli: Cli, sleeper: str) -> None:
    lines = cli.ok("top", sleeper).split("\n")
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert any("sleep 1000" in line for line in lines[1:])
    assert cli.ok("top", sleeper, "-o", "pid,comm").split("\n")[0].split() == ["PID", "COMMAND"]


def test_diff(cli: Cli, debian: str) -> None:
    line = (
        "touch /new; mkdir -p /made/in; echo x >/made/in/file; rm /etc/issue; chmod 700 /srv; rm -r /home; mkdir /home"
    )
    cli.ok("run", "--name", "changed", debian, "sh", "-c", line)
    assert sorted(cli.ok("diff", "changed").split("\n")) == [
        "A /made", "A /made/in", "A /made/in/file", "A /new", "C /etc", "C /srv", "D /etc/issue",
    ]  # fmt: skip
    cli.ok("run", "--name", "unchanged", debian, "true")
    assert cli.ok("diff", "unchanged") == ""


def test_events_of_a_containers_life(cli: Cli, busybox: str) -> None:
    container = cli.ok("create", "--name", "alive", "-l", "a=b", busybox, "sh", "-c", "exit 3")
    cli.ok("start", "alive")
    cli.ok("wait", "alive")
    cli.ok("rename", "alive", "dead")
    cli.ok("rm", "dead")
    of_it = f"container={container}"
    actions = cli.past_events(of_it, template="{{.Type}} {{.Action}}")
    assert [each for each in actions if "network" not in each] == [
        "container create", "container start", "container die", "container rename", "container destroy",
    ]  # fmt: skip
    assert cli.past_events(of_it, "event=die", template="{{.Actor.Attributes.exitCode}}") == ["3"]
    assert cli.past_events(of_it, "label=a=b", "event=create") == ["create"]
    assert cli.past_events(of_it, "type=image") == []
    told = json.loads(cli.past_events(of_it, "event=rename", template="json")[0])
    assert (told["Actor"]["Attributes"]["name"], told["Actor"]["Attributes"]["oldName"]) == ("dead", "/alive")
    line = cli.ok("events", "--since", "1", "--until", f"{time.time():.6f}", "--filter", of_it, "--filter", "event=die")
    attributes = rf"\(a=b, execDuration=\d, exitCode=3, image={busybox}, name=alive\)"
    assert re.fullmatch(rf"\S+ container die {container} {attributes}", line)


def test_events_of_a_volume(cli: Cli, busybox: str) -> None:
    volume = f"told-{cli.name}"
    container = cli.ok("run", "-d", "-v", f"{volume}:/v:ro", busybox, "true")
    cli.ok("wait", container)
    cli.ok("rm", container)
    cli.ok("volume", "rm", volume)
    told = '{{.Action}} {{.Actor.Attributes.driver}} {{index .Actor.Attributes "read/write"}}'
    assert cli.past_events(f"volume={volume}", template=told) == [
        "create local ", "mount local false", "unmount local ", "destroy local ",
    ]  # fmt: skip
    assert cli.past_events(f"volume={volume}", "event=mount", template="{{.Actor.Attributes.container}}") == [container]


def test_events_as_they_happen(cli: Cli, busybox: str) -> None:
    process = cli.begin("events", "--filter", "type=container", "--format", "{{.Action}} {{.Actor.Attributes.name}}")
    assert process.stdout is not None
    # until the client listens, nothing that happens is told
    cli.ok("create", "--name", "seen", busybox, "true")
    told = ""
    while "rename" not in told:
        cli.ok("rename", "seen", "other")
        cli.ok("rename", "other", "seen")
        if select.select([process.stdout], [], [], 0.5)[0]:
            told = process.stdout.readline()
    process.kill()
    process.communicate()


def test_info_and_version(cli: Cli, engine: object) -> None:
    assert cli.ok("info", "--format", "{{.OSType}}") == "linux"
    assert cli.ok("version", "--format", "{{.Server.Os}}") == "linux"
    assert int(cli.ok("version", "--format", "{{.Server.APIVersion}}").split(".")[1]) >= 41
    assert "Server:" in cli.ok("version")
    assert "Containers: " in cli.ok("info")
