import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.client import c_modules

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_reads_what_json_writes_and_writes_what_json_reads(value: object) -> None:
    assert c_modules.loads(json.dumps(value, indent=1).encode()) == value
    assert json.loads(c_modules.dumps(value)) == value


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", "{1:2}", "nul", '"a', "1 2", "{}x", "\x00"])
def test_what_is_not_json(text: str) -> None:
    with pytest.raises(ValueError):
        c_modules.loads(text)


def test_what_cannot_be_json() -> None:
    with pytest.raises(TypeError):
        c_modules.dumps({"a": object()})


def test_bytes_that_are_no_text_come_through() -> None:
    assert c_modules.loads(b'"\xff"') == "\udcff"


def test_other_pythons_get_the_wrappers() -> None:
    """Without the C modules everything is the same but for the time."""
    code = (
        "import sys\n"
        "for name in ('_json', '_signal'): sys.modules[name] = None\n"
        "from wherry.client import c_modules\n"
        "assert c_modules.loads(c_modules.dumps({'a': [1, None]})) == {'a': [1, None]}\n"
        "assert c_modules.signals.SIGINT == 2\n"
    )
    # The signal and json packages themselves stand on the C modules, so those are loaded first.
    subprocess.run([sys.executable, "-c", "import signal, json, socket\n" + code], check=True)


def test_a_run_loads_none_of_the_slow_modules() -> None:
    """`wherry run` is to take no longer than Docker's: what is imported on its way is part of that."""
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from wherry.cli import main\n"
        "assert main.run(['-H', 'unix:///nowhere', 'run', '--rm', '-it', '-e', 'A=1', 'busybox', 'true']) == 1\n"
        "assert main.run(['-H', 'unix:///nowhere', 'run', '--rm', '-i', '-e', 'A=1', 'busybox', 'true']) == 125\n"
        "slow = {'re', 'enum', 'json', 'socket', 'signal', 'ssl', 'typing', 'argparse', 'dataclasses', 'contextlib',\n"
        "        'http', 'urllib', 'subprocess', 'threading', 'tempfile', 'shutil', 'logging', 'rich', 'asyncio'}\n"
        "loaded = set(sys.modules) - before\n"
        "assert not loaded & slow, loaded & slow\n"
        "assert len(loaded) < 40, sorted(loaded)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_not_json_without_the_json_module() -> None:
    """The scanner's own error is made by a module that the client does not load."""
    code = (
        "from wherry.client import c_modules\ntry: c_modules.loads('{broken')\nexcept ValueError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith("Expecting property name")
