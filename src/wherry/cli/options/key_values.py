"""One line of comma separated fields, some of them in quotes, as Go's encoding/csv reads it (`--mount`, `--gpus`)."""

from __future__ import annotations


def fields(text: str) -> list[str]:
    """Raises ValueError for a quote in the wrong place, and for no text at all."""
    if not text:
        raise ValueError("EOF")
    found = []
    position = 0
    while True:
        if text.startswith('"', position):
            field, position = _in_quotes(text, position)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            field = text[position:end]
            if '"' in field:
                raise ValueError(
                    f'parse error on line 1, column {position + field.index(chr(34)) + 1}: bare " in non-quoted-field'
                )
            position = end
        found.append(field)
        if position >= len(text):
            return found
        position += 1


def _in_quotes(text: str, position: int) -> tuple[str, int]:
    """The field that begins with a quote at `position`, and where its comma, or the end, is."""
    field = []
    position += 1
    while True:
        end = text.find('"', position)
        if end < 0:
            raise ValueError(f'parse error on line 1, column {len(text) + 1}: extraneous or missing " in quoted-field')
        field.append(text[position:end])
        if text.startswith('""', end):
            field.append('"')
            position = end + 2
            continue
        if end + 1 < len(text) and text[end + 1] != ",":
            raise ValueError(f'parse error on line 1, column {end + 1}: extraneous or missing " in quoted-field')
        return "".join(field), end + 1
