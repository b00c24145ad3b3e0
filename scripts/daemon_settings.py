#!/usr/bin/env python3
"""Writes the tables of docs/daemon.md from the daemon's settings: scripts/daemon_settings.py."""

import os
from pathlib import Path

from wherry.common.setting_kinds import Setting
from wherry.common.settings import GROUPS

DOCUMENT = Path(__file__).parents[1] / "docs" / "daemon.md"
BEGIN = "<!-- from wherry.common.settings, by scripts/daemon_settings.py -->\n"


def tables() -> str:
    text = ""
    for title, settings in GROUPS.items():
        shown = [setting for setting in settings if not setting.flag.hidden or setting.refusal]
        last = "why not" if title == "Refused" else "what it does"
        text += f"\n### {title}\n\n| flag | in daemon.json | {last} |\n| --- | --- | --- |\n"
        text += "".join(_row(setting) for setting in sorted(shown, key=lambda setting: setting.flag.name))
    return text


def _row(setting: Setting) -> str:
    flag = setting.flag
    name = f"`-{flag.short}`, `--{flag.name}`" if flag.short else f"`--{flag.name}`"
    key = f"`{setting.key}`" if setting.key else ""
    said = setting.refusal or flag.usage
    if flag.show and not setting.refusal:
        said += f" (default `{_anywhere(flag.show)}`)"
    if setting.reloads:
        said += "; reloaded"
    return f"| {name} | {key} | {said.replace('|', chr(92) + '|')} |\n"


def _anywhere(default: str) -> str:
    """Certificates are looked for where the docker CLI keeps its own."""
    certificates = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
    return default.replace(certificates, "~/.docker")


if __name__ == "__main__":
    before = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[0]
    DOCUMENT.write_text(before + BEGIN + tables(), encoding="utf-8")
