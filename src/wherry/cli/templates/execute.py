"""Runs a parsed template over a value. The rules, and the wording of errors, are those of Go's text/template."""

from __future__ import annotations

from wherry.cli.table import Row
from wherry.cli.templates.functions import FUNCTIONS, display
from wherry.cli.templates.parse import CallError, Parser, TemplateError
from wherry.cli.templates.values import ABSENT, Map, find, truth, type_name
from wherry.common.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.cli.templates.functions import Function
    from wherry.cli.templates.parse import Body, Node
    from wherry.cli.templates.values import Value

_TYPES = {"s": (str, "string"), "i": (int, "int")}


class Template:
    """A parsed template."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        try:
            parsed = Parser(name, text, FUNCTIONS)
        except RecursionError:
            raise TemplateError(f"template: {name}: nested too deep") from None
        self.body, self.templates = parsed.body, parsed.templates

    def execute(self, data: Value, functions: dict[str, Function] = FUNCTIONS) -> str:
        """The output for a value. Raises TemplateError; what was written until then is in its `output`."""
        run = _Run(self, functions, data)
        try:
            run.walk(data, self.body)
        except TemplateError as error:
            error.output = "".join(run.output)
            raise
        except RecursionError:
            raise TemplateError(f"template: {self.name}: exceeded maximum template depth") from None
        return "".join(run.output)


def parse(text: str, name: str = "") -> Template:
    """Raises TemplateError: "template: NAME:LINE: what is wrong"."""
    return Template(name, text)


class _Break(Exception):
    """{{break}}"""


class _Continue(Exception):
    """{{continue}}"""


class _Run:
    """One execution: the variables and the output."""

    def __init__(self, template: Template, functions: dict[str, Function], data: Value) -> None:
        self.template, self.functions = template, functions
        self.variables: list[tuple[str, Value]] = [("$", data)]
        self.output: list[str] = []

    def error(self, node: Node, message: str) -> TemplateError:
        before = self.template.text[: node.at]
        column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogateescape"))
        name = self.template.name
        where = f"{name}:{1 + before.count(chr(10))}:{column}"
        return TemplateError(f"template: {where}: executing {quoted(name)} at <{node.text}>: {message}")

    # Text and actions

    def walk(self, dot: Value, body: Body) -> None:
        for node in body:
            match node.kind:
                case "text":
                    self.output.append(node.text)
                case "pipe":
                    value = self.pipe(dot, node)
                    if not node.value[0]:
                        self.output.append(display(value))
                case "range":
                    self.loop(dot, node)
                case "if" | "with":
                    self.condition(dot, node)
                case "template":
                    self.template_of(dot, node)
                case "break":
                    raise _Break
                case "continue":
                    raise _Continue

    def template_of(self, dot: Value, node: Node) -> None:
        """{{template}}: one that was defined, with variables of its own."""
        body = self.template.templates.get(node.value)
        if body is None:
            raise self.error(node, f"template {quoted(node.value)} not defined")
        value = self.pipe(dot, node.parts[0]) if node.parts else None
        outer, self.variables = self.variables, [("$", value)]
        self.walk(value, body)
        self.variables = outer

    def condition(self, dot: Value, node: Node) -> None:
        mark = len(self.variables)
        value = self.pipe(dot, node.parts[0])
        body, otherwise = node.value
        if truth(value):
            self.walk(value if node.kind == "with" else dot, body)
        else:
            self.walk(dot, otherwise)
        del self.variables[mark:]

    def loop(self, dot: Value, node: Node) -> None:
        outer = len(self.variables)
        pipe = node.parts[0]
        items = list(self.items(pipe, self.pipe(dot, pipe)))
        names, assigns = pipe.value
        mark = len(self.variables) - (0 if assigns else len(names))
        body, otherwise = node.value
        for index, element in items:
            del self.variables[mark:]
            for name, value in zip(names, (index, element)[-len(names) :], strict=False):
                self.set(name, value, assigns)
            try:
                self.walk(element, body)
            except _Continue:
                continue
            except _Break:
                break
        if not items:
            self.walk(dot, otherwise)
        del self.variables[outer:]

    def items(self, node: Node, value: Value) -> Iterable[tuple[Value, Value]]:
        if value is ABSENT or value is None:
            return ()
        if isinstance(value, list):
            return enumerate(value)
        if isinstance(value, dict):
            return ((key, value[key]) for key in sorted(value))
        if isinstance(value, int) and not isinstance(value, bool):
            return ((number, number) for number in range(value))
        raise self.error(node, f"range can't iterate over {display(value)}")

    # Pipelines

    def set(self, name: str, value: Value, assigns: bool) -> None:
        place = next((at for at in range(len(self.variables) - 1, -1, -1) if self.variables[at][0] == name), None)
        if assigns and place is not None:
            self.variables[place] = (name, value)
        else:
            self.variables.append((name, value))

    def pipe(self, dot: Value, pipe: Node) -> Value:
        piped: list[Value] = []
        for command in pipe.parts:
            piped = [self.command(dot, command, piped)]
        names, assigns = pipe.value
        for name in names:
            self.set(name, piped[0], assigns)
        return piped[0]

    def command(self, dot: Value, command: Node, piped: list[Value]) -> Value:
        """`piped` is what the previous command of the pipeline gave, the last argument of this one."""
        first, *rest = command.parts
        if first.kind == "function":
            return self.call(dot, first.value, first, command, rest, piped)
        if (rest or piped) and first.kind not in ("field", "variable", "chain"):
            shown = f"({first.text})" if first.kind == "pipe" else first.text
            raise self.error(first, f"can't give argument to non-function {shown}")
        if first.kind == "nil":
            raise self.error(first, "nil is not a command")
        return self.operand(dot, first, [*(self.operand(dot, each) for each in rest), *piped])

    def operand(self, dot: Value, node: Node, arguments: list[Value] | None = None) -> Value:
        """`arguments` are those of a method."""
        given = arguments or []
        match node.kind:
            case "constant":
                return node.value
            case "dot":
                return dot
            case "nil":
                return None
            case "pipe":
                return self.pipe(dot, node)
            case "function":
                return self.call(dot, node.value, node, node, [], [])
            case "field":
                return self.fields(node, dot, node.value, given)
            case "chain":
                return self.fields(node, self.pipe(dot, node.parts[0]), node.value, given)
        name, *names = node.value
        value = next(value for known, value in reversed(self.variables) if known == name)
        return self.fields(node, value, names, given)

    def fields(self, node: Node, value: Value, names: list[str], arguments: list[Value]) -> Value:
        """.A.B of a value; the last may be a method of a row, which gets the arguments."""
        before = ""
        for name in names:
            if value is ABSENT:
                return ABSENT
            if value is None:
                missing = f"map has no entry for key {quoted(before)}"
                raise self.error(node, missing if before else f"nil pointer evaluating interface {{}}.{name}")
            value = self.field(node, value, name, arguments if name is names[-1] else [])
            before = name
        return value

    def field(self, node: Node, value: Value, name: str, arguments: list[Value]) -> Value:
        if isinstance(value, Row):
            parameters = value.listing.parameters(name)
            if parameters is None:
                raise self.error(node, f"can't evaluate field {name} in type {value.listing.go_type}")
            if len(arguments) != parameters:
                raise self.error(node, f"wrong number of args for {name}: want {parameters} got {len(arguments)}")
            return value.field(name, *arguments)
        if not isinstance(value, dict):
            raise self.error(node, f"can't evaluate field {name} in type {type_name(value)}")
        if arguments:
            raise self.error(node, f"{name} is not a method but has arguments")
        if isinstance(value, Map):
            return value.get(name, ABSENT)
        try:
            return find(value, name)
        except KeyError:
            raise self.error(node, f"map has no entry for key {quoted(name)}") from None

    # Calls

    def call(self, dot: Value, name: str, function: Node, command: Node, given: Body, piped: list[Value]) -> Value:
        call, signature = self.functions[name]
        letters, count = signature.rstrip("*"), len(given) + len(piped)
        if count < len(letters) or (count > len(letters) and letters == signature):
            want = f"{'at least ' if letters != signature else ''}{len(letters)}"
            raise self.error(function, f"wrong number of args for {name}: want {want} got {count}")
        if name in ("and", "or"):
            value: Value = None
            for each in given:
                value = self.operand(dot, each)
                if truth(value) == (name == "or"):
                    return value
            return piped[0] if piped else value
        values = [self.operand(dot, each) for each in given] + piped
        for letter, value, each in zip(letters, values, [*given, command], strict=False):
            if letter in _TYPES and (not isinstance(value, _TYPES[letter][0]) or isinstance(value, bool)):
                raise self.error(each, self.mismatch(each, value, _TYPES[letter][1]))
        try:
            return call(*(None if value is ABSENT else value for value in values))
        except CallError as error:
            raise self.error(command, f"error calling {name}: {error}") from None

    @staticmethod
    def mismatch(node: Node, value: Value, wanted: str) -> str:
        if node.kind == "nil":
            return f"cannot assign nil to {wanted}"
        if node.kind == "constant":
            return f"expected {'integer' if wanted == 'int' else wanted}; found {node.text}"
        return f"wrong type for value; expected {wanted}; got {type_name(value)}"
