"""Runs a parsed template over a value. The rules, and the wording of errors, are those of Go's text/template."""

from __future__ import annotations

from wherry.cli.templates import nodes
from wherry.cli.templates.errors import CallError, TemplateError
from wherry.cli.templates.functions import FUNCTIONS, Function, method_of
from wherry.cli.templates.parser import parse_trees
from wherry.cli.templates.printing import MAX_TEXT, display
from wherry.cli.templates.quoting import quote
from wherry.cli.templates.values import (
    STRING,
    Pointer,
    Struct,
    indirect,
    key_type,
    kind,
    truth,
    type_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wherry.cli.templates.values import Value

# How deep {{template}} may nest. Go allows 100,000; each level costs a few Python frames.
MAX_DEPTH = 40
# How many elements a template may execute: a second of work, far more than any listing needs.
MAX_STEPS = 1_000_000


class _Absent:
    """No value at all: a key that a map does not have. Not the same as a null that is there."""

    def __bool__(self) -> bool:
        return False


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


ABSENT = _Absent()
# Stands for "no argument comes through the pipe".
NOTHING = _Absent()


class Template:
    """A parsed template."""

    def __init__(self, name: str, text: str, functions: Mapping[str, Function]) -> None:
        self.name, self.text, self.functions = name, text, functions
        self.trees = parse_trees(name, text, functions)

    def execute(
        self, data: Value, *, missing_key_fails: bool = False, functions: Mapping[str, Function] | None = None
    ) -> str:
        """The output for a value. `functions` replaces those that it was parsed with, name by name.

        Raises TemplateError; what was written until then is in its `output`.
        """
        run = _Run(self, functions or self.functions, missing_key_fails)
        try:
            run.frame(self.name, data)
        except TemplateError as error:
            error.output = "".join(run.output)
            raise
        return "".join(run.output)


def parse(text: str, name: str = "", functions: Mapping[str, Function] = FUNCTIONS) -> Template:
    """Raises TemplateError: "template: NAME:LINE: what is wrong"."""
    return Template(name, text, functions)


class _Run:
    """One execution: the variables, the output, and the node that an error would be blamed on."""

    def __init__(self, template: Template, functions: Mapping[str, Function], missing_key_fails: bool) -> None:
        self.template, self.functions, self.missing_key_fails = template, functions, missing_key_fails
        self.name = template.name
        self.node: nodes.Node | None = None
        self.variables: list[tuple[str, Value]] = []
        self.output: list[str] = []
        self.size = 0
        self.depth = 0
        self.steps = 0

    def error(self, message: str) -> TemplateError:
        name = self.template.name
        if self.node is None:
            return TemplateError(f"template: {name}: {message}")
        before = self.template.text[: self.node.position]
        line = 1 + before.count("\n")
        column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogateescape"))
        where = f"{name}:{line}:{column}"
        return TemplateError(f"template: {where}: executing {quote(self.name)} at <{self.node}>: {message}")

    # Elements

    def frame(self, name: str, data: Value) -> None:
        """Runs one of the template's trees, with variables of its own."""
        outer = self.name, self.variables
        self.name, self.variables = name, [("$", data)]
        self.walk(data, self.template.trees[name])
        self.name, self.variables = outer

    def walk(self, dot: Value, body: nodes.Nodes) -> None:
        for node in body:
            self.step()
            self.node = node
            match node:
                case nodes.Text():
                    self.write(node.text)
                case nodes.Action():
                    value = self.pipeline(dot, node.pipe)
                    if not node.pipe.declared:
                        self.print(node, value)
                case nodes.Branch():
                    if node.word == "range":
                        self.range(dot, node)
                    else:
                        self.condition(dot, node)
                case nodes.Invocation():
                    self.invoke(dot, node)
                case nodes.Break():
                    raise _Break
                case nodes.Continue():
                    raise _Continue

    def step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise self.error(f"stopped after {MAX_STEPS} steps")

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > MAX_TEXT:
            raise self.error(f"stopped after {MAX_TEXT} characters of output")
        self.output.append(text)

    def print(self, node: nodes.Node, value: Value) -> None:
        self.node = node
        value = _indirect_text(value)
        try:
            self.write("<no value>" if value is ABSENT or value is None else display(value))
        except RecursionError:
            raise self.error("the value is nested too deep to be printed") from None

    def condition(self, dot: Value, node: nodes.Branch) -> None:
        mark = len(self.variables)
        value = self.pipeline(dot, node.pipe)
        if truth(value):
            self.walk(value if node.word == "with" else dot, node.body)
        elif node.otherwise is not None:
            self.walk(dot, node.otherwise)
        del self.variables[mark:]

    def range(self, dot: Value, node: nodes.Branch) -> None:
        outer = len(self.variables)
        value = indirect(self.pipeline(dot, node.pipe))
        mark = len(self.variables)
        any_done = False
        try:
            for index, element in self.items(node, value):
                any_done = True
                self.step()
                self.set_loop_variables(node.pipe, index, element)
                try:
                    self.walk(element, node.body)
                except _Continue:
                    pass
                finally:
                    del self.variables[mark:]
        except _Break:
            pass
        if not any_done and node.otherwise is not None:
            self.walk(dot, node.otherwise)
        del self.variables[outer:]

    def items(self, node: nodes.Branch, value: Value) -> Iterable[tuple[Value, Value]]:
        if value is ABSENT or value is None:
            return ()
        if isinstance(value, list):
            return enumerate(value)
        if isinstance(value, dict):
            return ((key, value[key]) for key in sorted(value))
        if isinstance(value, int) and not isinstance(value, bool):
            if len(node.pipe.declared) > 1:
                raise self.error(f"can't use {display(value)} to iterate over more than one variable")
            return ((number, number) for number in range(value))
        raise self.error(f"range can't iterate over {display(value)}")

    def set_loop_variables(self, pipe: nodes.Pipe, index: Value, element: Value) -> None:
        names = [variable.name for variable in pipe.declared]
        values = [element] if len(names) == 1 else [index, element]
        if pipe.assigns:
            for name, value in zip(names, values, strict=False):
                self.set_variable(name, value)
        elif names:
            self.variables[-len(names) :] = list(zip(names, values, strict=True))

    def invoke(self, dot: Value, node: nodes.Invocation) -> None:
        if node.name not in self.template.trees:
            raise self.error(f"template {quote(node.name)} not defined")
        if self.depth >= MAX_DEPTH:
            raise self.error(f"exceeded maximum template depth ({MAX_DEPTH})")
        value = self.pipeline(dot, node.pipe) if node.pipe else ABSENT
        self.depth += 1
        self.frame(node.name, value)
        self.depth -= 1

    # Pipelines

    def set_variable(self, name: str, value: Value) -> None:
        for place in range(len(self.variables) - 1, -1, -1):
            if self.variables[place][0] == name:
                self.variables[place] = (name, value)
                return
        raise self.error(f"undefined variable: {name}")

    def variable(self, name: str) -> Value:
        for known, value in reversed(self.variables):
            if known == name:
                return value
        raise self.error(f"undefined variable: {name}")

    def pipeline(self, dot: Value, pipe: nodes.Pipe) -> Value:
        self.node = pipe
        value: Value = NOTHING
        for command in pipe.commands:
            value = self.command(dot, command, value)
            if value is None:
                value = ABSENT
        for variable in pipe.declared:
            if pipe.assigns:
                self.set_variable(variable.name, value)
            else:
                self.variables.append((variable.name, value))
        return value

    def command(self, dot: Value, command: nodes.Command, piped: Value) -> Value:
        """`piped` is what the previous command of the pipeline gave, the last argument of this one."""
        arguments = command.arguments
        first = arguments[0]
        match first:
            case nodes.Field() | nodes.Chain():
                return self.operand_fields(dot, first, arguments, piped)
            case nodes.Variable() if first.fields:
                return self.operand_fields(dot, first, arguments, piped)
            case nodes.Identifier():
                self.node = first
                return self.call(dot, self.functions[first.name], command, first.name, arguments, piped)
        if not isinstance(first, nodes.Pipe):
            self.node = first
        if len(arguments) > 1 or piped is not NOTHING:
            shown = f"({first})" if isinstance(first, nodes.Pipe) else str(first)
            raise self.error(f"can't give argument to non-function {shown}")
        match first:
            case nodes.Pipe():
                return self.pipeline(dot, first)
            case nodes.Variable():
                return self.variable(first.name)
            case nodes.Dot():
                return dot
            case nodes.Nil():
                raise self.error("nil is not a command")
        return self.constant(first)

    def constant(self, node: nodes.Operand) -> Value:
        if isinstance(node, nodes.Number):
            self.node = node
            if isinstance(node.value, int) and node.value >= 1 << 63:
                raise self.error(f"{node.text} overflows int")
            return node.value
        if isinstance(node, (nodes.Bool, nodes.String)):
            return node.value
        raise self.error(f"can't handle assignment of {node} to empty interface argument")

    def operand_fields(
        self, dot: Value, node: nodes.Field | nodes.Chain | nodes.Variable, arguments: list[nodes.Operand], piped: Value
    ) -> Value:
        """.A.B, $x.A.B and (…).A.B; the last field may be a method, which gets the arguments."""
        self.node = node
        if isinstance(node, nodes.Field):
            receiver, names = dot, node.names
        elif isinstance(node, nodes.Variable):
            receiver, names = self.variable(node.name), node.fields
        else:
            receiver, names = self.argument(dot, "any", node.operand), node.fields
        type = type_name(receiver)
        for name in names[:-1]:
            outer = receiver
            receiver = self.field(dot, name, node, [], NOTHING, receiver, type)
            type = "interface {}" if outer.__class__ is dict else type_name(receiver)
        return self.field(dot, names[-1], node, arguments, piped, receiver, type)

    def field(
        self,
        dot: Value,
        name: str,
        node: nodes.Node,
        arguments: list[nodes.Operand],
        piped: Value,
        receiver: Value,
        type: str,
    ) -> Value:
        """One field of a receiver, whose static `type` errors name."""
        if receiver is ABSENT:
            if self.missing_key_fails:
                raise self.error(f"nil data; no entry for key {quote(name)}")
            return ABSENT
        if receiver is None:
            raise self.error(f"nil pointer evaluating interface {{}}.{name}")
        receiver = indirect(receiver)
        method = method_of(receiver, name)
        if method is not None:
            return self.call(dot, method, node, name, arguments, piped)
        has_arguments = len(arguments) > 1 or piped is not NOTHING
        if isinstance(receiver, Struct):
            found, value = receiver.find(name)
            if found:
                if has_arguments:
                    raise self.error(f"{name} has arguments but cannot be invoked as function")
                return value
        elif isinstance(receiver, dict):
            if key_type(receiver) is STRING:
                if has_arguments:
                    raise self.error(f"{name} is not a method but has arguments")
                if name in receiver:
                    return receiver[name]
                if self.missing_key_fails:
                    raise self.error(f"map has no entry for key {quote(name)}")
                return ABSENT
        elif isinstance(receiver, Pointer):
            pointed = receiver.type.element
            if pointed is None or pointed.kind != "struct" or any(f.name == name for f in pointed.fields):
                raise self.error(f"nil pointer evaluating {type}.{name}")
        raise self.error(f"can't evaluate field {name} in type {type}")

    # Calls

    def call(
        self, dot: Value, function: Function, node: nodes.Node, name: str, arguments: list[nodes.Operand], piped: Value
    ) -> Value:
        """`arguments` starts with the function itself, when it is not empty; `node` is what an error is blamed on."""
        given = arguments[1:]
        count = len(given) + (piped is not NOTHING)
        parameters = function.parameters
        if function.rest:
            if count < len(parameters):
                raise self.error(f"wrong number of args for {name}: want at least {len(parameters)} got {len(given)}")
        elif count != len(parameters):
            raise self.error(f"wrong number of args for {name}: want {len(parameters)} got {count}")
        if function is FUNCTIONS["and"] or function is FUNCTIONS["or"]:
            return self.short_circuit(dot, name == "or", given, piped)
        types = (*parameters, *([function.rest] * (count - len(parameters))))
        values = [self.argument(dot, type, argument) for type, argument in zip(types, given, strict=False)]
        if piped is not NOTHING:
            values.append(self.checked(piped, types[-1]))
        try:
            return function.call(*(None if value is ABSENT else value for value in values))
        except CallError as error:
            self.node = node
            raise self.error(f"error calling {name}: {error}") from None
        except RecursionError:
            self.node = node
            raise self.error(f"error calling {name}: the value is nested too deep") from None

    def short_circuit(self, dot: Value, wanted: bool, given: list[nodes.Operand], piped: Value) -> Value:
        value: Value = ABSENT
        for argument in given:
            value = self.argument(dot, "any", argument)
            if truth(value) == wanted:
                return value
        return value if piped is NOTHING else piped

    def argument(self, dot: Value, type: str, node: nodes.Operand) -> Value:
        """An argument's value; `type` is the parameter's."""
        self.node = node
        match node:
            case nodes.Dot():
                return self.checked(dot, type)
            case nodes.Nil():
                if type == "any":
                    return None
                raise self.error(f"cannot assign nil to {type}")
            case nodes.Field() | nodes.Chain():
                return self.checked(self.operand_fields(dot, node, [], NOTHING), type)
            case nodes.Variable():
                value = self.operand_fields(dot, node, [], NOTHING) if node.fields else self.variable(node.name)
                return self.checked(value, type)
            case nodes.Pipe():
                return self.checked(self.pipeline(dot, node), type)
            case nodes.Identifier():
                function = self.functions[node.name]
                return self.checked(self.call(dot, function, node, node.name, [], NOTHING), type)
        if type == "string":
            if isinstance(node, nodes.String):
                return node.value
            raise self.error(f"expected string; found {node}")
        if type == "int":
            if isinstance(node, nodes.Number) and node.integer is not None:
                return node.integer
            raise self.error(f"expected integer; found {node}")
        return self.constant(node)

    def checked(self, value: Value, type: str) -> Value:
        """The value, when a parameter of the type takes it."""
        if type == "any":
            return value
        if value is ABSENT:
            raise self.error(f"invalid value; expected {type}")
        if isinstance(value, Pointer) and type_name(value.target) == type:
            return value.target
        found = "interface {}" if value is None else type_name(value)
        if found != type:
            raise self.error(f"wrong type for value; expected {type}; got {found}")
        return value


def _indirect_text(value: Value) -> Value:
    """What a pointer leads to, unless the pointer itself knows how to print."""
    target = indirect(value)
    if isinstance(value, Pointer) and isinstance(target, Struct) and target.type.stringer:
        return value
    return target if kind(target) != "pointer" else value
