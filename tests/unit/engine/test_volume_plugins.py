"""How plug-ins are found, and those that do not answer as they should."""

import asyncio
from pathlib import Path

import pytest

from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.engine import plugins
from wherry.engine.plugins import VolumePlugins


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plugins, "SOCKET_FOLDER", str(tmp_path))
    monkeypatch.setattr(plugins, "_SPEC_FOLDERS", (str(tmp_path),))
    return tmp_path


def test_where_they_are_found(folder: Path) -> None:
    (folder / "one.sock").touch()
    (folder / "two").mkdir()
    (folder / "two" / "two.spec").write_text("tcp://127.0.0.1:1\n")
    (folder / "three.json").write_text('{"Name": "three", "Addr": "https://host:2", "TLSConfig": {"CAFile": "/ca"}}')
    (folder / "f00").mkdir()
    (folder / "f00" / "other.sock").touch()
    (folder / "broken.json").write_text("{")
    found = VolumePlugins()
    assert found.names() == ["broken", "one", "three", "two"]
    assert found.get("one").address.url == f"unix://{folder}/one.sock"
    assert found.get("two").address.url == "tcp://127.0.0.1:1"
    tls = found.get("three").address.tls
    assert tls is not None and tls.ca_file == "/ca"
    with pytest.raises(InvalidParameter, match=r"broken\.json"):
        found.get("broken")
    for name in ("nothing", "../one", ".one", ""):
        with pytest.raises(NotFound, match=f'plugin "{name}" not found'):
            found.get(name)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "did not answer /Plugin.Activate within 0.2 s"),
        (b'{"Implements": ["NetworkDriver"]}', "does not implement the requested interface"),
        (b'{"Err": "not today"}', "not today"),
        (b"gibberish", "gibberish"),
        (b"[]", "no object"),
    ],
)
async def test_one_that_is_no_volume_driver(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, message: str
) -> None:
    monkeypatch.setattr(plugins, "SHORT", 0.2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
        else:
            await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(serve, folder / "odd.sock"):
        with pytest.raises(EngineError, match=message):
            await VolumePlugins().get("odd").list_all()
