"""Go's text/template language, as far as people use it for `--format`, over what the API's JSON holds.

The way of a template: `parser` makes a tree of its text, `evaluator` walks the tree over a value, `functions` are those
that a template may call, `printing` writes values as Go's fmt does, `values` says what the API leaves out of its JSON.
"""

from wherry.cli.templates.execute import Template, parse
from wherry.cli.templates.parse import TemplateError

__all__ = ["Template", "TemplateError", "parse"]
