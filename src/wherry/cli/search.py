"""`search`: repositories of Docker Hub, or of a registry that the term names, by words in their names."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import Session, command
from wherry.cli.flags import Options
from wherry.cli.formatting import JSON, Listing, Row, ellipsis

_DESCRIPTION = 45  # characters


def _description(row: Row) -> str:
    text = str(row["description"] or "").replace("\n", " ").replace("\r", " ")
    return ellipsis(text, _DESCRIPTION) if row.truncates else text


HITS = Listing(
    "*registry.searchContext",
    "Name Description StarCount IsOfficial",
    {
        "Name": ("NAME", "name"),
        "Description": ("DESCRIPTION", _description),
        "StarCount": ("STARS", lambda row: str(row["star_count"] or 0)),
        "IsOfficial": ("OFFICIAL", "official"),
    },
)


@command(
    flags.filters("Filter output based on conditions provided"),
    flags.string("format", "", "Pretty-print search using a Go template"),
    flags.integer("limit", "", "Max number of search results"),
    flags.switch("no-trunc", "", "Don't truncate output"),
)
def run_search(session: Session, options: Options) -> None:
    from wherry.cli.auth import header

    term = options.arguments[0]
    first, slash, _ = term.partition("/")
    domain = first if slash and ("." in first or ":" in first or first == "localhost") else ""
    auth = header(session.config, domain)
    query = {"term": term, "limit": options["limit"] or None, "filters": options["filter"]}
    headers = {"X-Registry-Auth": auth} if auth else {}
    found = session.client.request("GET", "/images/search", query=query, headers=headers).json()
    format = options["format"]
    is_json = format == JSON or format.startswith("{{json .}}")
    words = ("false", "true") if is_json else ("", "[OK]")
    for hit in found:
        hit["official"] = words[bool(hit["is_official"])]
    sys.stdout.write(HITS.text([Row(HITS, hit, not options["no-trunc"]) for hit in found], format))
