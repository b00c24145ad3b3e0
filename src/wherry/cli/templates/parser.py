"""Makes a tree of a template's tokens. Errors carry Go's wording and the line."""

from __future__ import annotations

from wherry.cli.templates import lexer, nodes
from wherry.cli.templates.errors import TemplateError
from wherry.cli.templates.lexer import RIGHT, Token
from wherry.cli.templates.quoting import quote, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

# Each level costs a few Python frames, of which there are a thousand; nobody writes twenty by hand.
MAX_DEPTH = 60

OPERANDS = frozenset(
    (
        lexer.BOOL,
        lexer.CHARACTER,
        ".",
        lexer.FIELD,
        lexer.IDENTIFIER,
        lexer.NUMBER,
        "nil",
        lexer.RAW_STRING,
        lexer.STRING,
        lexer.VARIABLE,
        "(",
    )
)


def parse_trees(name: str, text: str, functions: Container[str]) -> dict[str, nodes.Nodes]:
    """The template's own tree, under its name, and those that it defines. Raises TemplateError."""
    return _Parser(name, text, functions).run()


class _Parser:
    def __init__(self, name: str, text: str, functions: Container[str]) -> None:
        self.name = name
        self.functions = functions
        self.tokens = lexer.tokenize(text)
        self.next_index = 0
        self.line = 1  # of the token that was looked at last, for errors
        self.variables = ["$"]
        self.ranges = 0  # how many {{range}} are open
        self.depth = 0
        self.action_line = 0
        self.trees: dict[str, nodes.Nodes] = {}

    def run(self) -> dict[str, nodes.Nodes]:
        root: nodes.Nodes = []
        while self.peek().kind != lexer.EOF:
            if self.at_definition():
                self.definition()
                continue
            node = self.text_or_action()
            if isinstance(node, (nodes.Else, nodes.End)):
                raise self.error(f"unexpected {node}")
            root.append(node)
        self.define(self.name, root)
        return self.trees

    # Tokens

    def next(self) -> Token:
        token = self.peek()
        self.next_index += 1
        return token

    def peek(self) -> Token:
        """The token that comes next: the last one over and over at the end, so that back() works there too."""
        token = self.tokens[min(self.next_index, len(self.tokens) - 1)]
        self.line = token.line
        return token

    def skip_space(self) -> None:
        while self.peek().kind == lexer.SPACE:
            self.next_index += 1

    def next_solid(self) -> Token:
        """The next token that is not a space."""
        self.skip_space()
        return self.next()

    def peek_solid(self) -> Token:
        self.skip_space()
        return self.peek()

    def back(self) -> None:
        self.next_index -= 1

    def expect(self, kind: str, context: str) -> Token:
        token = self.next_solid()
        if token.kind != kind:
            raise self.unexpected(token, context)
        return token

    def error(self, message: str) -> TemplateError:
        return TemplateError(f"template: {self.name}:{self.line}: {message}")

    def unexpected(self, token: Token, context: str) -> TemplateError:
        if token.kind != lexer.ERROR:
            return self.error(f"unexpected {token} in {context}")
        extra = ""
        if self.action_line not in (0, token.line):
            extra = f" in action started at {self.name}:{self.action_line}"
            if token.text.endswith(" action"):
                extra = extra.removeprefix(" in action")
        return self.error(f"{token}{extra}")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} levels deep")

    # Text and actions

    def define(self, name: str, body: nodes.Nodes) -> None:
        if name not in self.trees or _is_empty(self.trees[name]):
            self.trees[name] = body
        elif not _is_empty(body):
            raise self.error(f"template: multiple definition of template {quote(name)}")

    def at_definition(self) -> bool:
        """Whether {{define comes next; when it does, takes it."""
        start = self.next_index
        if self.next().kind == lexer.LEFT and self.next_solid().kind == "define":
            return True
        self.next_index = start
        return False

    def definition(self) -> None:
        context = "define clause"
        token = self.next_solid()
        if token.kind not in (lexer.STRING, lexer.RAW_STRING):
            raise self.unexpected(token, context)
        name = self.unquoted(token)
        self.expect(RIGHT, context)
        self.define(name, self.own_body(context))

    def own_body(self, context: str) -> nodes.Nodes:
        """The body of a define or a block: it sees no variables but $, and no range around it."""
        outer = self.variables, self.ranges
        self.variables, self.ranges = ["$"], 0
        body, end = self.body()
        if not isinstance(end, nodes.End):
            raise self.error(f"unexpected {end} in {context}")
        self.variables, self.ranges = outer
        return body

    def body(self) -> tuple[nodes.Nodes, nodes.Else | nodes.End]:
        found: nodes.Nodes = []
        self.deeper()
        while self.peek_solid().kind != lexer.EOF:
            node = self.text_or_action()
            if isinstance(node, (nodes.Else, nodes.End)):
                self.depth -= 1
                return found, node
            found.append(node)
        raise self.error("unexpected EOF")

    def text_or_action(self) -> nodes.Element | nodes.Else | nodes.End:
        token = self.next_solid()
        if token.kind == lexer.TEXT:
            return nodes.Text(token.position, token.text)
        if token.kind == lexer.LEFT:
            self.action_line = token.line
            node = self.action()
            self.action_line = 0
            return node
        raise self.unexpected(token, "input")

    def action(self) -> nodes.Element | nodes.Else | nodes.End:
        token = self.next_solid()
        match token.kind:
            case "if" | "with" | "range":
                return self.branch(token.kind)
            case "end":
                return nodes.End(self.expect(RIGHT, "end").position)
            case "else":
                return self.else_action()
            case "template":
                return self.template_action()
            case "block":
                return self.block_action()
            case "break":
                return nodes.Break(self.loop_word(token))
            case "continue":
                return nodes.Continue(self.loop_word(token))
        self.back()
        # Variables declared here stay known until the enclosing {{end}}.
        return nodes.Action(self.peek().position, self.pipeline("command", RIGHT))

    def loop_word(self, word: Token) -> int:
        shown = f"{{{{{word.text}}}}}"
        token = self.next_solid()
        if token.kind != RIGHT:
            raise self.unexpected(token, shown)
        if not self.ranges:
            raise self.error(f"{shown} outside {{{{range}}}}")
        return word.position

    def else_action(self) -> nodes.Else:
        token = self.peek_solid()
        if token.kind in ("if", "with"):
            return nodes.Else(token.position, token.kind)
        return nodes.Else(self.expect(RIGHT, "else").position, "")

    def branch(self, word: str) -> nodes.Branch:
        known = len(self.variables)
        pipe = self.pipeline(word, RIGHT)
        self.ranges += word == "range"
        body, end = self.body()
        self.ranges -= word == "range"
        otherwise: nodes.Nodes | None = None
        if isinstance(end, nodes.Else):
            if end.follows == word and word != "range":
                # {{else if}} is {{else}}{{if}} with one {{end}} for both.
                self.next_solid()
                self.deeper()
                otherwise = [self.branch(word)]
                self.depth -= 1
            else:
                otherwise, end = self.body()
                if not isinstance(end, nodes.End):
                    raise self.error(f"expected end; found {end}")
        del self.variables[known:]
        return nodes.Branch(word, pipe, body, otherwise)

    def template_action(self) -> nodes.Invocation:
        context = "template clause"
        token = self.next_solid()
        name = self.template_name(token, context)
        pipe = None
        if self.next_solid().kind != RIGHT:
            self.back()
            pipe = self.pipeline(context, RIGHT)
        return nodes.Invocation(token.position, name, quote(name), pipe)

    def block_action(self) -> nodes.Invocation:
        context = "block clause"
        token = self.next_solid()
        name = self.template_name(token, context)
        pipe = self.pipeline(context, RIGHT)
        self.define(name, self.own_body(context))
        return nodes.Invocation(token.position, name, quote(name), pipe)

    def template_name(self, token: Token, context: str) -> str:
        if token.kind not in (lexer.STRING, lexer.RAW_STRING):
            raise self.unexpected(token, context)
        return self.unquoted(token)

    # Pipelines

    def pipeline(self, context: str, end: str) -> nodes.Pipe:
        self.deeper()
        pipe = nodes.Pipe(self.peek_solid().position)
        self.declarations(pipe, context)
        while True:
            token = self.next_solid()
            if token.kind == end:
                self.check(pipe, context)
                self.depth -= 1
                return pipe
            if token.kind not in OPERANDS:
                raise self.unexpected(token, context)
            self.back()
            pipe.commands.append(self.command())

    def declarations(self, pipe: nodes.Pipe, context: str) -> None:
        """`$x :=`, `$x =`, and in a range `$i, $x :=`."""
        while self.peek_solid().kind == lexer.VARIABLE:
            start = self.next_index
            variable = self.next()
            token = self.next_solid()
            if token.kind in ("=", ":="):
                pipe.assigns = token.kind == "="
                pipe.declared.append(nodes.Variable(variable.position, variable.text))
                self.variables.append(variable.text)
                return
            if token.kind != lexer.OTHER or token.text != ",":
                self.next_index = start
                return
            pipe.declared.append(nodes.Variable(variable.position, variable.text))
            self.variables.append(variable.text)
            if context != "range" or len(pipe.declared) >= 2:
                raise self.error(f"too many declarations in {context}")
            if self.peek_solid().kind not in (lexer.VARIABLE, RIGHT, ")"):
                raise self.error("range can only initialize variables")

    def check(self, pipe: nodes.Pipe, context: str) -> None:
        if not pipe.commands:
            raise self.error(f"missing value for {context}")
        for stage, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.arguments[0], (nodes.Bool, nodes.Dot, nodes.Nil, nodes.Number, nodes.String)):
                raise self.error(f"non executable command in pipeline stage {stage}")

    def command(self) -> nodes.Command:
        command = nodes.Command(self.peek_solid().position, [])
        while True:
            self.skip_space()
            operand = self.operand()
            if operand is not None:
                command.arguments.append(operand)
            token = self.next()
            if token.kind == lexer.SPACE:
                continue
            if token.kind in (RIGHT, ")"):
                self.back()
            elif token.kind != "|":
                raise self.unexpected(token, "operand")
            break
        if not command.arguments:
            raise self.error("empty command")
        return command

    def operand(self) -> nodes.Operand | None:
        node = self.term()
        if node is None or self.peek().kind != lexer.FIELD:
            return node
        position = self.peek().position
        fields = []
        while self.peek().kind == lexer.FIELD:
            fields.append(self.next().text[1:])
        if isinstance(node, nodes.Field):
            return nodes.Field(position, (*node.names, *fields))
        if isinstance(node, nodes.Variable):
            return nodes.Variable(position, node.name, tuple(fields))
        if isinstance(node, (nodes.Bool, nodes.String, nodes.Number, nodes.Nil, nodes.Dot)):
            raise self.error(f"unexpected . after term {quote(str(node))}")
        return nodes.Chain(position, node, tuple(fields))

    def term(self) -> nodes.Operand | None:
        token = self.next_solid()
        match token.kind:
            case lexer.IDENTIFIER:
                if token.text not in self.functions:
                    raise self.error(f"function {quote(token.text)} not defined")
                return nodes.Identifier(token.position, token.text)
            case ".":
                return nodes.Dot(token.position)
            case "nil":
                return nodes.Nil(token.position)
            case lexer.VARIABLE:
                if token.text not in self.variables:
                    raise self.error(f"undefined variable {quote(token.text)}")
                return nodes.Variable(token.position, token.text)
            case lexer.FIELD:
                return nodes.Field(token.position, (token.text[1:],))
            case lexer.BOOL:
                return nodes.Bool(token.position, token.text == "true")
            case lexer.NUMBER | lexer.CHARACTER:
                return self.number(token)
            case lexer.STRING | lexer.RAW_STRING:
                return nodes.String(token.position, token.text, self.unquoted(token))
            case "(":
                return self.pipeline("parenthesized pipeline", ")")
        self.back()
        return None

    def unquoted(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except TemplateError as error:
            raise self.error(str(error)) from None

    def number(self, token: Token) -> nodes.Number:
        text = token.text
        if token.kind == lexer.CHARACTER:
            try:
                character = unquote(text)
            except TemplateError:
                character = ""
            if len(character) != 1:
                raise self.error(f"malformed character constant: {text}") from None
            return nodes.Number(token.position, text, ord(character), ord(character))
        try:
            value = _number(text)
        except OverflowError:
            raise self.error(f"integer overflow: {quote(text)}") from None
        except ValueError:
            raise self.error(f"illegal number syntax: {quote(text)}") from None
        if isinstance(value, int):
            return nodes.Number(token.position, text, value, value)
        whole = isinstance(value, float) and value.is_integer() and abs(value) < 1 << 63
        return nodes.Number(token.position, text, value, int(value) if whole else None)  # type: ignore[arg-type]


def _number(text: str) -> int | float | complex:
    """A Go number. The lexer lets through more than there is: raises ValueError for what is none.

    Raises OverflowError for an integer of more than 64 bits, and, as Go does, for digits that its base does not have.
    """
    digits = text.lstrip("+-")
    if text.endswith("i"):
        return complex(text[:-1].replace("_", "") + "j")
    prefix = digits[:2].lower()
    if prefix == "0x" and ("." in text or "p" in text.lower()):
        if "p" not in text.lower():
            raise ValueError(text)
        return float.fromhex(text.replace("_", ""))
    if "." in text or ("e" in text.lower() and prefix != "0x"):
        return float(text)
    if prefix in ("0x", "0o", "0b"):
        value = int(text, 0)
    elif len(digits) > 1 and digits.startswith("0"):  # Go's old octal
        if "8" in digits or "9" in digits:
            raise OverflowError(text)
        value = int(text, 8)
    else:
        value = int(text)
    if not -(1 << 63) <= value < 1 << 64:
        raise OverflowError(text)
    return value


def _is_empty(body: nodes.Nodes) -> bool:
    return all(isinstance(node, nodes.Text) and not node.text.strip() for node in body)
