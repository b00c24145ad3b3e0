"""`events`: what happens in the engine, as it happens."""

from __future__ import annotations

from wherry.cli import flags
from wherry.cli.command import CommandError, Session, command
from wherry.cli.flags import Options
from wherry.cli.formatting import TEMPLATE_ERROR, executed, rfc3339, template_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.templates import Template

NO_EVENT = {
    **dict.fromkeys(("status", "id", "from", "Type", "Action", "scope"), ""),
    "Actor": {"ID": "", "Attributes": {}},
    "time": 0,
    "timeNano": 0,
}


@command(
    flags.filters("Filter output based on conditions provided"),
    flags.template(),
    flags.string("since", "", "Show all events created since timestamp"),
    flags.string("until", "", "Stream events until this timestamp"),
)
def run_events(session: Session, options: Options) -> None:
    from wherry.cli.moments import timestamp

    format = options["format"]
    template = _template(format) if format else None
    try:
        since, until = timestamp(options["since"]), timestamp(options["until"])
    except ValueError as error:
        raise CommandError(str(error)) from None
    query = {"since": since, "until": until, "filters": options["filter"]}
    for event in session.client.request("GET", "/events", query=query).values():
        whole = event if format == "json" else {**NO_EVENT, **event}
        print(executed(template, whole) if template else line_of(event), flush=True)


def _template(format: str) -> Template:
    """The template, tried on an event without anything in it: a field that no event has is told before any comes."""
    from wherry.cli.templates import TemplateError
    from wherry.cli.templates.values import shaped

    template = template_of(format, failure="Error parsing format")
    try:
        template.execute(shaped(NO_EVENT))
    except TemplateError as error:
        raise CommandError(f"Error parsing format: {error}", TEMPLATE_ERROR) from None
    return template


def line_of(event: dict[str, Any]) -> str:
    """TIME TYPE ACTION ID (KEY=VALUE, …)"""
    actor = event.get("Actor") or {}
    parts = [str(event.get("Type", "")), str(event.get("Action", "")), str(actor.get("ID", ""))]
    nanoseconds = event.get("timeNano") or (event.get("time") or 0) * 10**9
    if nanoseconds:
        parts.insert(0, rfc3339(nanoseconds // 10**9, nanoseconds % 10**9))
    attributes = actor.get("Attributes") or {}
    if attributes:
        parts.append(f"({', '.join(f'{key}={attributes[key]}' for key in sorted(attributes))})")
    return " ".join(parts)
