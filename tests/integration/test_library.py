"""``import wherry``: the examples of its docstrings and of its page, and what happens when things go wrong."""

import doctest
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import wherry
from tests.support.engine import PROJECT, Engine
from wherry.client import containers, images, options, process, resources, sync
from wherry.client import engine as library


@pytest.fixture
def connected(engine: Engine, busybox: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[wherry.Engine]:
    """A connection to the tests' engine, which `wherry.connect()` leads to, too."""
    monkeypatch.setenv("WHERRY_HOST", engine.host)
    with wherry.connect() as connection:
        yield connection


@pytest.mark.parametrize(
    "module", [library, sync, containers, options, images, process, resources], ids=lambda module: module.__name__
)
def test_the_examples_of_the_docstrings(connected: wherry.Engine, module: ModuleType) -> None:
    outcome = doctest.testmod(module)
    assert outcome.failed == 0
    assert outcome.attempted > 0


def test_the_examples_of_the_page(connected: wherry.Engine) -> None:
    outcome = doctest.testfile(str(PROJECT / "docs" / "library.md"), module_relative=False)
    assert outcome.failed == 0
    assert outcome.attempted > 0


def test_both_streams_in_their_order(connected: wherry.Engine) -> None:
    result = connected.run("busybox", "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three")
    assert (result.output, result.stdout, result.stderr) == ("one\ntwo\nthree\n", b"one\nthree\n", b"two\n")
    assert connected.run("busybox", "echo shown", tty=True).output == "shown\r\n"


def test_a_large_input_comes_back(connected: wherry.Engine) -> None:
    """Written and read at the same time, as neither side may wait for the other."""
    data = bytes(range(256)) * (1 << 14)
    assert connected.run("busybox", ["cat"], input=data).stdout == data


def test_an_exit_code_that_is_an_error(connected: wherry.Engine) -> None:
    with pytest.raises(wherry.CommandFailed, match="exit code 7: sorry") as caught:
        connected.run("busybox", "echo sorry; exit 7", check=True)
    assert caught.value.result.exit_code == 7
    assert connected.containers.list(all=True) == []


def test_a_command_that_takes_too_long(connected: wherry.Engine) -> None:
    with pytest.raises(TimeoutError, match=r"had not ended after 0\.5 seconds"):
        connected.run("busybox", ["sleep", "60"], timeout=0.5)
    assert connected.containers.list(all=True) == []


def test_what_the_engine_refuses(connected: wherry.Engine) -> None:
    with pytest.raises(wherry.APIError, match="executable file not found"):
        connected.run("busybox", ["no-such-program"])
    with pytest.raises(wherry.APIError) as caught:
        connected.containers.get("nope")
    assert (caught.value.status, caught.value.not_found) == (404, True)
    assert connected.containers.list(all=True) == []


def test_no_engine_at_all(tmp_path: Path) -> None:
    with wherry.connect(f"unix://{tmp_path}/nope.sock") as engine, pytest.raises(wherry.ConnectionFailed):
        engine.version()


def test_execs_and_their_exit_codes(connected: wherry.Engine) -> None:
    with connected.start("busybox", ["sleep", "60"], env={"A": "1"}, labels={"k": "v"}, workdir="/tmp") as container:
        assert container.status == "running"
        for code in range(5):
            assert container.exec(f"exit {code}").exit_code == code
        assert container.exec(["sh", "-c", "echo $A $B; pwd"], env={"B": "2"}).output == "1 2\n/tmp\n"
        container.pause()
        assert container.status == "paused"
        container.unpause()
        container.stop(timeout=0)
        assert (container.status, container.wait()) == ("exited", 137)
        container.write("/tmp/file", "text", mode=0o600)
        assert container.read("/tmp/file") == b"text"
        with pytest.raises(IsADirectoryError):
            container.read("/tmp")
    with pytest.raises(wherry.APIError):
        container.inspect()


def test_images_go_out_and_come_in(connected: wherry.Engine, tmp_path: Path) -> None:
    image = connected.images.get("busybox")
    image.tag("copied", "1")
    connected.images.save(["copied:1"], tmp_path / "image.tar")
    assert sorted(image.tags) == ["busybox:latest", "copied:1"]
    assert [found.id for found in connected.images.load(tmp_path / "image.tar")] == [image.id]
    connected.client.delete("/images/copied:1")
    assert connected.images.get("busybox").size > 1_000_000


def test_a_dockerfile_that_is_no_file_of_the_folder_is_not_copied(connected: wherry.Engine, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("")
    (tmp_path / "Other").write_text("FROM busybox\nCOPY . /all\n")
    for given in ({"text": (tmp_path / "Other").read_text()}, {"dockerfile": tmp_path / "Other"}):
        image = connected.build(tmp_path / "folder", tag="copied", **given)
        assert connected.run("copied", ["ls", "-A", "/all"]).output == "a\n"
        image.remove(force=True)


def test_importing_wherry_loads_nothing_else() -> None:
    code = "import sys, wherry; print([m for m in sys.modules if m.startswith('wherry.')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        wherry.nope  # noqa: B018 - that is what is asked


def test_what_is_promised_is_there_and_typed() -> None:
    promised: list[str] = wherry.__all__
    assert all(getattr(wherry, name) for name in promised)
    stub = Path(str(wherry.__file__)).with_suffix(".pyi").read_text()
    assert set(promised) == set(re.findall(r"^from .* import .* as (\w+)$", stub, re.MULTILINE))


@pytest.mark.parametrize("name", wherry.__all__)
def test_all_of_it_says_what_it_is_for(name: str) -> None:
    thing = getattr(wherry, name)
    members = vars(thing).items() if isinstance(thing, type) else ()
    public = [member for key, member in members if not key.startswith("_") and hasattr(member, "__doc__")]
    silent = [member for member in public if callable(getattr(member, "fget", member)) and not member.__doc__]
    assert thing.__doc__
    assert silent == []


def test_a_limit_in_anybodys_words_is_a_limit(connected: wherry.Engine) -> None:
    """They were left out in silence once, and the container ran without."""
    with connected.start("busybox", ["sleep", "60"], mem_limit="64m", pids_limit=50, volumes={"/tmp": "/t"}) as found:
        host = found.inspect()["HostConfig"]
        assert (host["Memory"], host["PidsLimit"], host["Binds"]) == (64 << 20, 50, ["/tmp:/t"])
    with pytest.raises(TypeError, match="'enviroment' is not an option"):
        connected.run("busybox", "true", enviroment={})  # type: ignore[call-arg]
    assert connected.containers.list(all=True) == []
