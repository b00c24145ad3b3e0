"""`key=value,key=value`, as --mount, --gpus, --secret, RUN --mount and others take it: a line of Go's encoding/csv.

A field with a comma in it stands in quotes as a whole (`"device=0,1",driver=x`), and a quote in those is doubled.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def pairs(text: str, switches: Collection[str] = ()) -> Iterator[tuple[str, str, str]]:
    """The key in small letters, the value and the whole field, of each field. One of `switches` alone is true.

    Raises ValueError, as `fields` does, and for a field without a value.
    """
    for field in fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals and key not in switches:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        yield key, value if equals else "true", field


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
