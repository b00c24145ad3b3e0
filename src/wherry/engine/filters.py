"""What list filters have in common."""

import re
from collections.abc import Collection, Mapping

from wherry.model.errors import InvalidParameter


def label_matches(labels: Mapping[str, str], wanted: str) -> bool:
    """``wanted`` is "key" or "key=value"."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def pattern(value: str) -> re.Pattern[str]:
    """A name's filter is a regular expression; what is none stands for itself."""
    try:
        return re.compile(value)
    except re.error:
        return re.compile(re.escape(value))


def labels_pass(labels: Mapping[str, str], filters: Mapping[str, list[str]]) -> bool:
    """What prune's filters "label" and "label!" say: all of the first, and none of the second."""
    return all(label_matches(labels, wanted) for wanted in filters.get("label", ())) and not any(
        label_matches(labels, unwanted) for unwanted in filters.get("label!", ())
    )


def check_known(filters: Mapping[str, list[str]], known: Collection[str]) -> None:
    """Raises InvalidParameter for a filter that there is not."""
    unknown = set(filters).difference(known)
    if unknown:
        raise InvalidParameter(f"invalid filter '{min(unknown)}'")


def boolean(name: str, values: list[str]) -> bool:
    """A filter whose value is a truth value, in the spellings that Docker takes. Raises InvalidParameter."""
    truths = {"true": True, "1": True, "false": False, "0": False}
    found = {truths.get(value.lower()) for value in values}
    if len(found) != 1 or None in found:
        raise InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")
    return bool(found.pop())
