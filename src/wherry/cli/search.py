"""`search`: repositories of Docker Hub, or of a registry that the term names, by words in their names."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import Command, exactly
from wherry.cli.formatting import TABLE, Row, ellipsis, listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options

COLUMNS = ("Name", "Description", "StarCount", "IsOfficial")
_DESCRIPTION = 45  # characters


class SearchRow(Row):
    """A repository of GET /images/search."""

    go_type = "*formatter.searchContext"
    headers = {  # noqa: RUF012 - never changed
        "Name": "NAME",
        "Description": "DESCRIPTION",
        "StarCount": "STARS",
        "IsOfficial": "OFFICIAL",
        "IsAutomated": "AUTOMATED",
    }

    def __init__(self, hit: dict[str, Any], truncates: bool) -> None:
        self.hit, self.truncates = hit, truncates

    def Name(self) -> str:
        return str(self.hit.get("name") or "")

    def Description(self) -> str:
        text = str(self.hit.get("description") or "").replace("\n", " ").replace("\r", " ")
        return ellipsis(text, _DESCRIPTION) if self.truncates else text

    def StarCount(self) -> str:
        return str(self.hit.get("star_count") or 0)

    def IsOfficial(self) -> str:
        return "[OK]" if self.hit.get("is_official") else ""

    def IsAutomated(self) -> str:
        return "[OK]" if self.hit.get("is_automated") else ""


def run_search(session: Session, options: Options) -> None:
    from wherry.cli.auth import header

    term = options.arguments[0]
    first, slash, _ = term.partition("/")
    domain = first if slash and ("." in first or ":" in first or first == "localhost") else ""
    auth = header(session.config, domain)
    query = {"term": term, "limit": options["limit"] or None, "filters": options["filter"] or None}
    headers = {"X-Registry-Auth": auth} if auth else {}
    found = session.client.request("GET", "/images/search", query=query, headers=headers).json()
    rows = [SearchRow(hit, not options["no-trunc"]) for hit in found]
    sys.stdout.write(listing(SearchRow, rows, options["format"] or TABLE, COLUMNS))


SEARCH = Command(
    "search [OPTIONS] TERM",
    "Search Docker Hub for images",
    run_search,
    flags=[
        flags.filters("Filter output based on conditions provided"),
        flags.string("format", "", "Pretty-print search using a Go template"),
        flags.integer("limit", "", "Max number of search results"),
        flags.switch("no-trunc", "", "Don't truncate output"),
    ],
    arguments=exactly(1),
)
