"""The daemon's own log, on standard error: a line of text or of JSON for each event."""

import json
import logging
import sys
import time

from wherry.daemon.configuration import Configuration

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
_NAMES = {number: name for name, number in _LEVELS.items()}
_TEXT, _MOMENT = "%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"
_ON_TERMINAL, _TIME_OF_DAY = "%(asctime)s {color}%(levelname)-7s\x1b[0m %(message)s", "%H:%M:%S"
_COLORS = {logging.DEBUG: "\x1b[37m", logging.INFO: "\x1b[36m", logging.WARNING: "\x1b[33m"}
_RED = "\x1b[31m"


def start_logging(configuration: Configuration) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(configuration, is_terminal=sys.stderr.isatty()))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    set_level(configuration)


def set_level(configuration: Configuration) -> None:
    level = logging.DEBUG if configuration["debug"] else _LEVELS[configuration["log-level"]]
    logging.getLogger().setLevel(level)


def formatter(configuration: Configuration, *, is_terminal: bool) -> logging.Formatter:
    if configuration["log-format"] == "json":
        return _Json()
    if is_terminal and not configuration["raw-logs"]:
        return _Colored(_ON_TERMINAL, _TIME_OF_DAY)
    raw = logging.Formatter(_TEXT, _MOMENT)
    raw.converter = time.gmtime
    return raw


class _Colored(logging.Formatter):
    """The log for a person who watches: the local time of day, and levels by their colors."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("{color}", _COLORS.get(record.levelno, _RED), 1)


class _Json(logging.Formatter):
    """The fields that Docker's lines have."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        moment = time.strftime(_MOMENT, time.gmtime(record.created)) + f".{int(record.msecs):03}Z"
        line = {"level": _NAMES.get(record.levelno, "info"), "msg": message, "time": moment}
        return json.dumps(line, ensure_ascii=False)
