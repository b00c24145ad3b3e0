"""Go's text/template language, as far as `--format` uses it, over Go-like values.

The way of a template: `lexer` cuts the text into tokens, `parser` makes `nodes` of them, `evaluator` walks the nodes
over a value and writes the output. `values` are what Go would hold (typed structs, slices, maps, nil pointers),
`printing` writes them as Go's fmt does, `functions` are those that a template may call, `shapes` turns the API's JSON
into the structs that Docker's client has.
"""

from wherry.cli.templates.errors import TemplateError
from wherry.cli.templates.evaluator import Template, parse

__all__ = ["Template", "TemplateError", "parse"]
