"""The tree of a parsed template. `str()` of a node is its source in Go's canonical spelling: errors quote it.

`position` is in characters from the start of the template. Plain classes: importing dataclasses takes longer than
running most templates.
"""

from __future__ import annotations


class Node:
    __slots__ = ("position",)

    def __init__(self, position: int) -> None:
        self.position = position


class Dot(Node):
    __slots__ = ()

    def __str__(self) -> str:
        return "."


class Nil(Node):
    __slots__ = ()

    def __str__(self) -> str:
        return "nil"


class Bool(Node):
    __slots__ = ("value",)

    def __init__(self, position: int, value: bool) -> None:
        self.position, self.value = position, value

    def __str__(self) -> str:
        return "true" if self.value else "false"


class Number(Node):
    """`integer` is the value as an int where it is a whole number: 1e3 is a float that also serves as an int."""

    __slots__ = ("integer", "text", "value")

    def __init__(self, position: int, text: str, value: int | float | complex, integer: int | None) -> None:
        self.position, self.text, self.value, self.integer = position, text, value, integer

    def __str__(self) -> str:
        return self.text


class String(Node):
    __slots__ = ("quoted", "value")

    def __init__(self, position: int, quoted: str, value: str) -> None:
        self.position, self.quoted, self.value = position, quoted, value

    def __str__(self) -> str:
        return self.quoted


class Identifier(Node):
    __slots__ = ("name",)

    def __init__(self, position: int, name: str) -> None:
        self.position, self.name = position, name

    def __str__(self) -> str:
        return self.name


class Field(Node):
    __slots__ = ("names",)

    def __init__(self, position: int, names: tuple[str, ...]) -> None:
        self.position, self.names = position, names

    def __str__(self) -> str:
        return "." + ".".join(self.names)


class Variable(Node):
    __slots__ = ("fields", "name")

    def __init__(self, position: int, name: str, fields: tuple[str, ...] = ()) -> None:
        self.position, self.name, self.fields = position, name, fields

    def __str__(self) -> str:
        return ".".join((self.name, *self.fields))


class Chain(Node):
    """Fields of what is in parentheses: (index . 0).Name"""

    __slots__ = ("fields", "operand")

    def __init__(self, position: int, operand: Operand, fields: tuple[str, ...]) -> None:
        self.position, self.operand, self.fields = position, operand, fields

    def __str__(self) -> str:
        return ".".join((_in_parentheses(self.operand), *self.fields))


class Command(Node):
    __slots__ = ("arguments",)

    def __init__(self, position: int, arguments: list[Operand]) -> None:
        self.position, self.arguments = position, arguments

    def __str__(self) -> str:
        return " ".join(_in_parentheses(argument) for argument in self.arguments)


class Pipe(Node):
    __slots__ = ("assigns", "commands", "declared")

    def __init__(self, position: int) -> None:
        self.position = position
        self.declared: list[Variable] = []
        self.assigns = False
        self.commands: list[Command] = []

    def __str__(self) -> str:
        declared = ", ".join(str(v) for v in self.declared)
        prefix = f"{declared} {'=' if self.assigns else ':='} " if declared else ""
        return prefix + " | ".join(str(c) for c in self.commands)


class Text(Node):
    __slots__ = ("text",)

    def __init__(self, position: int, text: str) -> None:
        self.position, self.text = position, text

    def __str__(self) -> str:
        return self.text


class Action(Node):
    __slots__ = ("pipe",)

    def __init__(self, position: int, pipe: Pipe) -> None:
        self.position, self.pipe = position, pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


class Branch(Node):
    """if, with and range: `word` says which."""

    __slots__ = ("body", "otherwise", "pipe", "word")

    def __init__(self, word: str, pipe: Pipe, body: Nodes, otherwise: Nodes | None) -> None:
        self.position, self.word, self.pipe, self.body, self.otherwise = pipe.position, word, pipe, body, otherwise

    def __str__(self) -> str:
        otherwise = "" if self.otherwise is None else "{{else}}" + text_of(self.otherwise)
        return f"{{{{{self.word} {self.pipe}}}}}{text_of(self.body)}{otherwise}{{{{end}}}}"


class Invocation(Node):
    """{{template "name" pipe}}"""

    __slots__ = ("name", "pipe", "quoted")

    def __init__(self, position: int, name: str, quoted: str, pipe: Pipe | None) -> None:
        self.position, self.name, self.quoted, self.pipe = position, name, quoted, pipe

    def __str__(self) -> str:
        return f"{{{{template {self.quoted}{f' {self.pipe}' if self.pipe else ''}}}}}"


class Break(Node):
    __slots__ = ()

    def __str__(self) -> str:
        return "{{break}}"


class Continue(Node):
    __slots__ = ()

    def __str__(self) -> str:
        return "{{continue}}"


class Else(Node):
    """Ends a body; `follows` is the keyword of an {{else if}} or {{else with}}, otherwise empty."""

    __slots__ = ("follows",)

    def __init__(self, position: int, follows: str) -> None:
        self.position, self.follows = position, follows

    def __str__(self) -> str:
        return "{{else}}"


class End(Node):
    __slots__ = ()

    def __str__(self) -> str:
        return "{{end}}"


Operand = Dot | Nil | Bool | Number | String | Identifier | Field | Variable | Chain | Pipe
Element = Text | Action | Branch | Invocation | Break | Continue
Nodes = list[Element]


def text_of(nodes: Nodes) -> str:
    return "".join(str(node) for node in nodes)


def _in_parentheses(operand: Operand) -> str:
    return f"({operand})" if isinstance(operand, Pipe) else str(operand)
