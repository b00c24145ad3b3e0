"""What goes wrong in a template: one exception, worded as Go words it, since scripts match on it."""

from __future__ import annotations


class TemplateError(Exception):
    """A template that does not parse, or that does not fit the value it is run over."""

    # What had been written when it happened.
    output = ""


class CallError(Exception):
    """A function that refuses its arguments. The evaluator adds where, and makes a TemplateError of it."""
