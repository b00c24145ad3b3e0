"""What list filters have in common."""

from collections.abc import Mapping

from wherry.model.errors import InvalidParameter


def label_matches(labels: Mapping[str, str], wanted: str) -> bool:
    """``wanted`` is "key" or "key=value"."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def boolean(name: str, values: list[str]) -> bool:
    """A filter whose value is a truth value, in the spellings that Docker takes. Raises InvalidParameter."""
    truths = {"true": True, "1": True, "false": False, "0": False}
    found = {truths.get(value.lower()) for value in values}
    if len(found) != 1 or None in found:
        raise InvalidParameter(f"invalid filter '{name}={values}'")
    return bool(found.pop())
