"""``build``: which stages are walked, and which steps are found again."""

import os
import stat
import subprocess
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support import registry
from tests.support.builds import Builder, cached, file_server, serving
from tests.support.engine import Engine

Finished = subprocess.CompletedProcess[str]
Build = Callable[..., Finished]


def test_only_what_the_target_needs(build: Builder) -> None:
    text = "FROM busybox AS no\nRUN exit 1\nFROM busybox AS yes\nRUN echo > /yes\nFROM no\nRUN exit 2\n"
    build(text, None, "--target", "yes")
    assert "yes" in build.files()


def test_stages_run_side_by_side(build: Builder) -> None:
    """Each waits for the other, so one after the other they would never end."""
    wait = (
        "RUN --mount=type=cache,id=meet-{id},target=/m touch /m/{own}; until test -e /m/{other}; do sleep 0.05; done\n"
    )
    unique = f"{os.getpid()}-{time.time_ns()}"
    build(
        "FROM busybox AS one\n" + wait.format(id=unique, own="one", other="two") + "FROM busybox AS two\n"
        + wait.format(id=unique, own="two", other="one")
        + "FROM busybox\nCOPY --from=one /etc/passwd /1\nCOPY --from=two /etc/passwd /2\n"
    )  # fmt: skip


def test_no_two_stages_wait_for_each_others_caches(build: Builder) -> None:
    """Each wants both, in another order and one of them twice, while the other one runs."""
    unique = f"{os.getpid()}-{time.time_ns()}"
    one, two = (f"--mount=type=cache,sharing=locked,id={name}-{unique},target=/{name}" for name in ("one", "two"))
    again = f"--mount=type=cache,sharing=locked,id=one-{unique},target=/again"
    build(
        f"FROM busybox AS a\nRUN {one} {two} {again} echo a >> /one/who; cat /again/who > /a\n"
        f"FROM busybox AS b\nRUN {two} {one} echo b >> /one/who; cp /one/who /b\n"
        "FROM busybox\nCOPY --from=a /a /a\nCOPY --from=b /b /b\n"
    )
    assert sorted(build.shows("cat", "/a", "/b").split()) in (["a", "a", "b"], ["a", "b", "b"])


def test_a_cache_that_could_not_be_filled_is_not_there(build: Builder) -> None:
    own = f"id=fill-{os.getpid()}-{time.time_ns()}"
    text = (
        "FROM busybox AS seed\nRUN mkdir -p /seed && echo seeded > /seed/f\nFROM busybox\n"
        f"RUN --mount=type=cache,{own},target=/c,from=seed,source=/SOURCE cat /c/f > /f\n"
    )
    refused = build(text.replace("SOURCE", "nowhere"), check=False)
    assert refused.returncode == 1 and '"/nowhere": not found' in refused.stderr
    build(text.replace("SOURCE", "seed"))
    assert build.shows("cat", "/f") == "seeded\n"


def test_cache_depends_on_contents_and_not_on_times(build: Builder) -> None:
    text = "FROM busybox\nARG UNUSED\nENV A=b\nCOPY f /f\nRUN cat /f > /g\nARG USED\nRUN echo $USED > /used\n"
    build(text, {"f": f"{time.time_ns()}"}, "--build-arg", "USED=1")
    first = build.image()["Id"]
    os.utime(build.context / "f", (1, 1))
    assert cached(build(text, None, "--build-arg", "USED=1")) == [2, 3, 4, 5, 6, 7]
    assert build.image()["Id"] == first
    assert cached(build(text, None, "--build-arg", "USED=2")) == [2, 3, 4, 5, 6]
    assert cached(build(text, None, "--build-arg", "USED=1", "--no-cache")) == []
    assert cached(build(text, {"f": "changed"}, "--build-arg", "USED=1")) == [2, 3]


def test_what_only_the_configuration_says_changes_no_later_step(build: Builder) -> None:
    text = "FROM busybox\nLABEL commit={}\nCMD {}\nWORKDIR /app\nCOPY f .\nRUN echo > g\n"
    build(text.format(1, 1), {"f": f"{time.time_ns()}"})
    assert cached(build(text.format(2, 2))) == [4, 5, 6]


def test_a_failed_build_can_be_taken_up(build: Builder) -> None:
    unique = time.time_ns()
    finished = build(f"FROM busybox\nRUN echo {unique} > /a\nRUN exit 3\n", check=False)
    assert finished.returncode == 3
    assert cached(build(f"FROM busybox\nRUN echo {unique} > /a\nRUN echo 3\n")) == [2]


def test_prune_and_usage(build: Builder, engine: Engine) -> None:
    engine.wherry("builder", "prune", "--all", "--force", check=True)
    build(f"FROM busybox\nRUN echo {time.time_ns()} > /only\n")
    usage = engine.request("GET", "/system/df").body["BuildCache"]
    assert any(record["Description"].startswith("RUN /bin/sh -c echo") and record["Shared"] for record in usage)
    for wanted in ("type=exec.cachemount", "shared=false", "inuse=true", "id=nothing", "until=24h"):
        engine.wherry("builder", "prune", "--all", "--force", "--filter", wanted, check=True)
    assert usage == engine.request("GET", "/system/df").body["BuildCache"], "none of these means it"
    assert engine.request("POST", "/build/prune?all=1&min-free-space=1").body["CachesDeleted"] is None
    assert engine.request("POST", f"/build/prune?all=1&reserved-space={1 << 40}").body["CachesDeleted"] is None
    engine.wherry("rmi", "built", check=True)
    assert "Total reclaimed space" in engine.wherry("builder", "prune", "--all", "--force", check=True).stdout
    assert engine.request("GET", "/system/df").body["BuildCache"] == []


def test_steps_that_made_no_layer_keep_none(own_engine: Engine, tmp_path: Path) -> None:
    """What they stood on goes with its image; otherwise nothing could ever take it away."""
    build = Builder(own_engine, tmp_path)
    build("FROM busybox\nLABEL a=b\nRUN true\n")
    own_engine.wherry("rmi", "--force", "built", "busybox", check=True)
    assert own_engine.request("GET", "/images/json?all=1").body == []
    assert list((own_engine.data_root / "layers").iterdir()) == []


def test_the_cache_outlives_the_engine(own_engine: Engine, tmp_path: Path) -> None:
    build = Builder(own_engine, tmp_path)
    build("FROM busybox\nRUN echo 1 > /1\n")
    own_engine.wherry("rmi", "built", check=True)
    own_engine.stop()
    own_engine.start()
    assert cached(build("FROM busybox\nRUN echo 1 > /1\n")) == [2]


def test_cache_from_an_image(own_engine: Engine, tmp_path: Path) -> None:
    build = Builder(own_engine, tmp_path)
    text = "FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\n"
    build(text, None, "--cache-to", "inline")
    own_engine.wherry("save", "-o", str(tmp_path / "saved.tar"), "built", check=True)
    own_engine.wherry("rmi", "built", check=True)
    own_engine.wherry("builder", "prune", "--all", "--force", check=True)
    own_engine.wherry("load", "-i", str(tmp_path / "saved.tar"), check=True)
    assert cached(build(text)) == []
    own_engine.wherry("builder", "prune", "--all", "--force", check=True)
    own_engine.wherry("load", "-i", str(tmp_path / "saved.tar"), check=True)
    assert cached(build(text, None, "--cache-from", "built")) == [2, 3]


def test_cache_from_a_registry(own_engine: Engine, tmp_path: Path) -> None:
    if not registry.installed():
        pytest.skip("docker-registry is not installed")
    build = Builder(own_engine, tmp_path)
    text = "FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\n"
    with registry.running(registry.Registry(tmp_path / "registry")) as running:
        name = f"{running.host}/cached"
        build(text, None, "--cache-to", "inline", "-t", name)
        own_engine.wherry("push", name, check=True)
        own_engine.wherry("rmi", "built", name, check=True)
        own_engine.wherry("builder", "prune", "--all", "--force", check=True)
        assert cached(build(text, None, "--cache-from", f"type=registry,ref={name}")) == [2, 3]
        missing = build(text, None, "--cache-from", f"{running.host}/nothing")
    assert f"WARNING: no cache from {running.host}/nothing" in missing.stderr and cached(missing) == [2, 3]


def test_a_step_of_another_architecture_is_another_step(build: Builder) -> None:
    text = "FROM --platform=linux/{} scratch\nCOPY --from=busybox / /\nRUN uname -m > /machine\n"
    build(text.format("386"))
    assert cached(build(text.format("amd64"))) == [2]
    assert build.shows("cat", "/machine") != "i686\n"


def test_a_step_that_left_no_trace_counts_for_those_after_it(build: Builder) -> None:
    """People put a number into it, to have done anew what follows."""
    text = "FROM busybox\nRUN echo {0}\nRUN cat /proc/sys/kernel/random/uuid > /unique\nWORKDIR /w\nCOPY f .\n"
    number = time.time_ns()
    build(text.format(number), {"f": "x"})
    first = build.shows("cat", "/unique")
    assert cached(build(text.format(number))) == [2, 3, 4, 5]
    assert cached(build(text.format(number + 1))) == []
    assert build.shows("cat", "/unique") != first


def test_the_same_files_by_another_name(build: Builder) -> None:
    text = "FROM busybox\nCOPY {} /d/\n"
    build(text.format("a/f"), {"a/f": f"{time.time_ns()}"})
    for name, files in (("a/f*", {}), ("b/f", {"b/f": (build.context / "a" / "f").read_text()})):
        assert cached(build(text.format(name), files)) == [2]
        assert f"COPY {name} /d/" in build.engine.wherry("history", "--no-trunc", "built", check=True).stdout
    (build.context / "a" / "f").rename(build.context / "a" / "g")
    assert cached(build(text.format("a/g"))) == [], "the name that it gets is another one"


def test_the_same_content_from_two_addresses(build: Builder, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / "served" / folder).mkdir(parents=True)
        (tmp_path / "served" / folder / "f").write_text(str(build.folder))
    with file_server(tmp_path / "served") as address:
        build(f"FROM busybox\nADD {address}/one/f /f\n")
        assert cached(build(f"FROM busybox\nADD {address}/two/f /f\n")) == [2]


def test_the_same_stage_twice_is_carried_out_once(build: Builder) -> None:
    same = f"RUN echo {time.time_ns()} && sleep 0.3 && cat /proc/sys/kernel/random/uuid > /unique\nRUN true\n"
    build(
        f"FROM busybox AS a\n{same}FROM busybox AS b\n{same}"
        "FROM busybox\nCOPY --from=a /unique /a\nCOPY --from=b /unique /b\n"
    )
    one, other = build.shows("cat", "/a", "/b").splitlines()
    assert one == other


def test_the_same_stage_twice_fails_once(build: Builder) -> None:
    same = f"RUN echo {time.time_ns()}; sleep 0.3; exit 3\n"
    failed = build(
        f"FROM busybox AS a\n{same}FROM busybox AS b\n{same}FROM busybox\nCOPY --from=a / /a\nCOPY --from=b / /b\n",
        check=False,
    )
    assert failed.returncode == 3


def test_what_is_linked_stays_when_what_is_before_it_changes(build: Builder) -> None:
    text = (
        "FROM busybox\nRUN echo {} > /d\nCOPY --link f g /d/\nCOPY --link --chmod=600 f /e\n"
        "COPY --from=busybox /etc/passwd /p\nRUN cat /d/f > /h\n"
    )
    files = {"f": f"{time.time_ns()}", "g": "g"}
    build(text.replace("/d\nCOPY", "/x\nCOPY").format(1), files)
    assert cached(build(text.replace("/d\nCOPY", "/x\nCOPY").format(2))) == [3, 4]
    assert build.shows("cat", "/d/f", "/h", "/x") == files["f"] * 2 + "2\n"
    assert stat.filemode(build.files()["e"].mode)[1:] == "rw-------"
    saved = build.folder / "saved.tar"
    build.engine.wherry("save", "-o", str(saved), "built", check=True)
    build.engine.wherry("rmi", "built", check=True)
    build.engine.wherry("load", "-i", str(saved), check=True)
    assert build.shows("cat", "/d/g") == "g"
    assert cached(build(text.replace("/d\nCOPY", "/x\nCOPY").format(2))) == [2, 3, 4, 5, 6]
    build("FROM scratch\nCOPY --link g /d/\nCOPY --link --chmod=600 f /e\n")
    assert cached(build("FROM scratch\nCOPY --link --chmod=600 f /e\n")) == [2]
    assert list(build.files()) == ["e"]


def test_a_file_that_the_server_says_is_as_it_was_does_not_travel(build: Builder) -> None:
    """By its ETag; one that is not, or whose step is gone, does."""
    served = {"etag": '"1"', "content": f"{time.time_ns()}".encode()}
    answered: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            same = self.headers.get("If-None-Match") == served["etag"]
            answered.append(304 if same else 200)
            self.send_response(answered[-1])
            self.send_header("ETag", str(served["etag"]))
            self.send_header("Content-Length", "0" if same else str(len(served["content"])))
            self.end_headers()
            if not same:
                self.wfile.write(served["content"])

        def log_message(self, *_: object) -> None: ...

    with serving(Handler) as address:
        text = f"FROM busybox\nADD {address}/f /f\n"
        build(text)
        assert cached(build(text)) == [2] and answered == [200, 304]
        build(text, None, "--no-cache")
        assert answered == [200, 304, 304, 200] and build.shows("cat", "/f").encode() == served["content"]
        served |= {"etag": '"2"', "content": b"changed"}
        assert cached(build(text)) == [] and answered[4:] == [200]
        assert build.shows("cat", "/f") == "changed"
        wrong = build(text.replace("ADD", f"ADD --checksum=sha256:{'0' * 64}"), check=False)
        assert wrong.returncode == 1 and "digest mismatch" in wrong.stderr
        assert build.engine.request("POST", "/build/prune?all=1").status == 200
        build(text)
        assert answered[-1] == 200
