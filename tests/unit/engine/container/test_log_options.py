"""Log drivers' options: which there are, what they may be, and what the monitor is told."""

from pathlib import Path

import pytest

from wherry.common.errors import InvalidParameter
from wherry.engine.container import logs
from wherry.model.container import Container, ContainerConfig, LogConfig
from wherry.runtime.spec import Journald, Syslog


def container(driver: str, **options: str) -> Container:
    return Container(
        id="0123456789abcdef" * 4,
        name="web",
        created=0,
        image="busybox:latest",
        image_id="sha256:78a0865196af",
        chain_id="",
        path="sh",
        args=["-c", "true"],
        config=ContainerConfig(labels={"a": "1", "ab": "2", "z": "3"}, env=["X1=4", "Y=5"]),
        host_config=None,
        log=LogConfig(driver, {name.replace("_", "-"): value for name, value in options.items()}),
        log_path="/log",
    )


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("nope", {}, 'error looking up logging plugin nope: plugin "nope" not found'),
        ("json-file", {"foo": "1"}, "unknown log opt 'foo' for json-file log driver"),
        ("syslog", {"foo": "1"}, "unknown log opt 'foo' for syslog log driver"),
        ("local", {"foo": "1"}, "unknown log opt 'foo' for log driver local"),
        ("json-file", {"syslog-format": ""}, "unknown log opt 'syslog-format' for json-file log driver"),
        ("json-file", {"mode": "x"}, "logger: logging mode not supported: x"),
        (
            "local",
            {"max-buffer-size": "1m"},
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        (
            "local",
            {"mode": "non-blocking", "max-buffer-size": "abc"},
            "error parsing option max-buffer-size: invalid size: 'abc'",
        ),
        ("json-file", {"max-size": "abc"}, "invalid size: 'abc'"),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"max-file": "abc"}, 'strconv.Atoi: parsing "abc": invalid syntax'),
        (
            "json-file",
            {"compress": "true"},
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        ("syslog", {"cache-disabled": "maybe"}, "invalid value for option cache-disabled: maybe"),
        ("syslog", {"syslog-address": "foo"}, "syslog-address should be in form proto://address, got foo"),
        (
            "syslog",
            {"syslog-address": "http://foo"},
            "syslog-address should be in form proto://address, got http://foo",
        ),
        ("syslog", {"syslog-address": "unix:///nope"}, "stat /nope: no such file or directory"),
        ("syslog", {"syslog-address": "udp://h", "syslog-facility": "nope"}, "invalid syslog facility"),
        ("syslog", {"syslog-address": "udp://h", "syslog-facility": "24"}, "invalid syslog facility"),
        ("syslog", {"syslog-address": "udp://h", "syslog-format": "nope"}, "Invalid syslog format"),
        ("json-file", {"tag": "{{.Name"}, "template: log-tag:1: unclosed action"),
    ],
)
def test_what_is_wrong_is_refused(driver: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        logs.check_log_config(LogConfig(driver, options))
    assert raised.value.message == message


def test_other_wrong_values() -> None:
    with pytest.raises(InvalidParameter, match=r"executing \"log-tag\" at <\.Nope>: can't evaluate"):
        logs.check_log_config(LogConfig("json-file", {"tag": "{{.Nope}}"}))
    with pytest.raises(InvalidParameter, match=r"error parsing regexp: .*`\["):
        logs.check_log_config(LogConfig("json-file", {"env-regex": "["}))


def test_no_driver_takes_any_option() -> None:
    logs.check_log_config(LogConfig("none", {"foo": "bar"}))
    assert logs.log_of(container("none")).driver == "none"


def test_no_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(logs, "JOURNAL", f"{tmp_path}/none")
    with pytest.raises(InvalidParameter, match="journald is not enabled on this host"):
        logs.check_log_config(LogConfig("journald"))


def test_the_tag() -> None:
    tag = "{{.ID}}|{{ .Name }}|{{.ImageName}}|{{.ImageID}}|{{.ImageFullID}}|{{.DaemonName}}|{{.Command}}"
    attributes = logs.log_of(container("json-file", tag=tag)).attrs
    assert attributes == {"tag": "0123456789ab|web|busybox:latest|sha256:78a08|sha256:78a0865196af|docker|sh -c true"}
    assert logs.log_of(container("json-file", tag="{{.FullID}}")).attrs["tag"] == "0123456789abcdef" * 4


def test_labels_and_variables() -> None:
    options = {"labels": "z,none", "labels-regex": "^a", "env": "Y", "env-regex": "^X"}
    assert logs.log_of(container("json-file", **options)).attrs == {
        "a": "1", "ab": "2", "z": "3", "X1": "4", "Y": "5"
    }  # fmt: skip


def test_syslog_to_a_server() -> None:
    log = logs.log_of(
        container("syslog", syslog_address="tcp://host:1514", syslog_facility="local3", syslog_format="rfc5424")
    )
    assert log.forward == Syslog("tcp", "host", 1514, 19 << 3, "rfc5424", "0123456789ab")
    assert (log.driver, log.max_size, log.max_files, log.compress) == ("local", 20 << 20, 5, True)
    assert (log.patient, log.buffer) == (True, 1 << 20)


def test_a_buffer_instead_of_patience() -> None:
    log = logs.log_of(container("syslog", syslog_address="udp://host", mode="non-blocking", max_buffer_size="4m"))
    assert (log.patient, log.buffer) == (False, 4 << 20)


@pytest.mark.parametrize(("driver", "warned"), [("local", True), ("json-file", True), ("syslog", False)])
def test_a_file_is_written_at_once(driver: str, warned: bool) -> None:
    assert bool(logs.warnings(LogConfig(driver, {"mode": "non-blocking"}))) is warned
    assert logs.warnings(LogConfig(driver, {"mode": "blocking"})) == []


def test_the_journals_fields() -> None:
    forward = logs.log_of(container("journald", labels="ab", tag="{{.Name}}")).forward
    assert isinstance(forward, Journald)
    assert forward.fields == {
        "CONTAINER_ID": "0123456789ab",
        "CONTAINER_ID_FULL": "0123456789abcdef" * 4,
        "CONTAINER_NAME": "web",
        "CONTAINER_TAG": "web",
        "IMAGE_NAME": "busybox:latest",
        "SYSLOG_IDENTIFIER": "web",
        "AB": "2",
    }


def test_without_a_file_beside() -> None:
    config = LogConfig("syslog", {"syslog-address": "udp://host", "cache-disabled": "true"})
    assert not logs.is_readable(config)
    assert logs.log_of(container("syslog", **config.config)).driver == "none"
