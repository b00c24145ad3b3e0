"""Go's text/template language, as far as people use it for `--format`, over what the API's JSON holds.

The way of a template: `parser` makes a tree of its text, `evaluator` walks the tree over a value, `functions` are those
that a template may call, `printing` writes values as Go's fmt does, `values` says what the API leaves out of its JSON.
"""

from wherry.cli.templates.errors import TemplateError
from wherry.cli.templates.evaluator import Template, parse

__all__ = ["Template", "TemplateError", "parse"]
