from tests.support.footprint import footprint


def test_wherry(wherry, busybox):
    r = wherry("run", "--rm", busybox, "sh", "-c", "echo hi; exit 3")
    assert (r.stdout, r.returncode) == ("hi\n", 3), r


def test_docker(docker, busybox, api_definition, engine):
    r = docker("run", "-d", busybox, "sleep", "1000", check=True)
    cid = r.stdout.strip()
    for p in ["/info", "/version", "/containers/json?all=1", f"/containers/{cid}/json", f"/containers/{cid}/top", "/images/json", "/images/busybox:latest/json", "/images/busybox/history"]:
        a = engine.request("GET", "/v1.51" + p)
        try:
            api_definition.check("GET", p, a.status, a.body)
        except AssertionError as e:
            print(e)


def test_py(docker_client, busybox):
    assert docker_client.containers.run(busybox, "echo hi", remove=True) == b"hi\n"


def test_debian(wherry, debian):
    assert "Debian" in wherry("run", "--rm", debian, "cat", "/etc/issue").stdout


def test_tty(wherry_terminal, docker_terminal, busybox):
    for t in (wherry_terminal, docker_terminal):
        with t("run", "-it", "--rm", busybox, "sh") as x:
            x.expect("/ # ")
            assert x.is_raw
            x.send("echo $((6*7))\r")
            x.expect("42")
            x.send("exit 3\r")
            assert x.wait() == 3
            assert x.settings() == x.initial_settings


def test_own(own_engine):
    own_engine.wherry("run", "--rm", "busybox", "true", check=True)
    before = footprint(own_engine)
    for _ in range(5):
        own_engine.wherry("run", "--rm", "busybox", "true", check=True)
    own_engine.wherry("run", "-d", "--name", "x", "busybox", "sleep", "1000", check=True)
    print(footprint(own_engine).processes)
    own_engine.kill()
    own_engine.start()
    assert own_engine.wherry("exec", "x", "echo", "hi").stdout == "hi\n"
    own_engine.wherry("rm", "-f", "x", check=True)
    print(before, footprint(own_engine))
