"""Text to a tree. Errors carry Go's wording and the line."""

from __future__ import annotations

from wherry.common.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any

    Body = list["Node"]

# What goes wrong in a template: one exception, worded as Go words it, since scripts match on it.


class TemplateError(Exception):
    """A template that does not parse, or that does not fit the value it is run over."""

    # What had been written when it happened.
    output = ""


class CallError(Exception):
    """A function that refuses its arguments. The evaluator adds where, and makes a TemplateError of it."""


SPACES = " \t\r\n"
KEYWORDS = frozenset(("block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"))
_ENDS = ("|", ")", "}}")


class Node:
    """A piece of a template: `text` is its source, which errors quote, `at` where it stands.

    By `kind`: text · pipe (`value`: the variables that it declares, and whether it only assigns; `parts`: commands) ·
    command (`parts`: operands) · constant · dot · nil · function (`value`: its name) · field, variable and chain
    (`value`: names; `parts` of a chain: what is in its parentheses) · if, with and range (`parts`: pipe; `value`: body
    and otherwise) · break · continue · template (`value`: its name; `parts`: a pipe, or nothing).
    """

    __slots__ = ("at", "kind", "parts", "text", "value")

    def __init__(self, kind: str, at: int, text: str, value: Any = None, parts: Body | None = None) -> None:
        self.kind, self.at, self.text, self.value, self.parts = kind, at, text, value, parts or []


class Token:
    """`kind`: text, word, field, variable, number, string, or a mark, which is its own kind; "" is the end."""

    __slots__ = ("at", "kind", "spaced", "text")

    def __init__(self, kind: str, text: str, at: int, spaced: bool = False) -> None:
        self.kind, self.text, self.at, self.spaced = kind, text, at, spaced

    @property
    def end(self) -> int:
        return self.at + len(self.text)


class _Lexer:
    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        self.tokens: list[Token] = []
        at = 0
        while (start := text.find("{{", at)) >= 0:
            body = start + 2
            trims = text[body : body + 1] == "-" and text[body + 1 : body + 2] in (*SPACES,)
            self._plain(text[at:start].rstrip(SPACES) if trims else text[at:start], at)
            at = self._action(start, body + 2 if trims else body)
        self._plain(text[at:], at)
        self.tokens.append(Token("", "", len(text)))

    def error(self, message: str, at: int) -> TemplateError:
        return TemplateError(f"template: {self.name}:{1 + self.text.count(chr(10), 0, at)}: {message}")

    def _plain(self, text: str, at: int) -> None:
        if text:
            self.tokens.append(Token("text", text, at))

    def _action(self, start: int, at: int) -> int:
        """Cuts what follows a {{; where the text goes on."""
        text = self.text
        if text.startswith("/*", at):
            end = text.find("*/", at)
            if end < 0:
                raise self.error("unclosed comment", at)
            after = self._right(end + 2)
            if not after:
                raise self.error("comment ends before closing delimiter", at)
            return after
        self.tokens.append(Token("{{", "{{", start))
        spaced = False
        while not (after := self._right(at)):
            char = text[at : at + 1]
            if not char:
                raise self.error("unclosed action", at)
            if char in SPACES:
                at, spaced = at + 1, True
                continue
            token = self._token(char, at, spaced)
            self.tokens.append(token)
            at, spaced = token.end, False
        self.tokens.append(Token("}}", "", at))
        return after

    def _right(self, at: int) -> int:
        """Where the text goes on behind a right delimiter; 0 when there is none."""
        text = self.text
        if text.startswith("}}", at):
            return at + 2
        if text[at : at + 1] in (*SPACES,) and text.startswith("-}}", at + 1):
            at += 4
            while text[at : at + 1] in (*SPACES,):
                at += 1
            return at
        return 0

    def _token(self, char: str, at: int, spaced: bool) -> Token:
        text = self.text
        if char in "()|,=":
            return Token(char, char, at, spaced)
        if text.startswith(":=", at):
            return Token(":=", ":=", at, spaced)
        if char in "\"`'":
            return Token("character" if char == "'" else "string", text[at : self._end_of_string(char, at)], at, spaced)
        if char.isdigit() or (char in "+-." and text[at + 1 : at + 2].isdigit()):
            end = at + 1
            while _is_word(more := text[end : end + 1]) or more == "." or text[end - 1 : end + 1] in _EXPONENTS:
                end += 1
            return Token("number", text[at:end], at, spaced)
        end = at + 1 if char in ".$" else at
        while _is_word(text[end : end + 1]):
            end += 1
        if end == at:
            raise self.error(f"unexpected {quoted(char)} in action", at)
        after = text[end : end + 1]
        if after and after not in SPACES + ".,|:)(=" and not text.startswith("}}", end):
            raise self.error(f"bad character U+{ord(after):04X} '{after}'", end)
        kind = {".": "field", "$": "variable"}.get(char, "word")
        return Token(kind, text[at:end], at, spaced)

    def _end_of_string(self, mark: str, at: int) -> int:
        escape, forbidden = ("", ("",)) if mark == "`" else ("\\", ("", "\n"))
        end = at + 1
        while (char := self.text[end : end + 1]) != mark:
            if char in forbidden:
                raise self.error(f"unterminated {_QUOTED[mark]}", at)
            end += 2 if char == escape else 1
        return end + 1


_ESCAPES = "abfnrtvxuU01234567\"'"  # what may follow a backslash, besides another one
_QUOTED = {"`": "raw quoted string", '"': "quoted string", "'": "character constant"}
_EXPONENTS = ("e+", "e-", "E+", "E-")


def _is_word(char: str) -> bool:
    """Whether it is a letter, a digit or an underscore; there is none at the end of the text."""
    return char == "_" or char.isalnum()


class Parser(_Lexer):
    """`body` is the tree, `templates` are those that are defined in it, by their names."""

    def __init__(self, name: str, text: str, functions: Container[str]) -> None:
        """Raises TemplateError."""
        super().__init__(name, text)
        self._functions = functions
        self._next = 0
        self._variables = ["$"]
        self._loops = 0
        self.templates: dict[str, Body] = {}
        self.body, end = self._body(outermost=True)
        if end:
            raise self.error(f"unexpected {{{{{end}}}}}", self._peek().at)

    def _peek(self) -> Token:
        return self.tokens[min(self._next, len(self.tokens) - 1)]

    def _take(self) -> Token:
        token = self._peek()
        self._next += 1
        return token

    def _takes(self, *kinds: str) -> bool:
        """Takes the next token if it is one of these."""
        found = self._peek().kind in kinds
        self._next += found
        return found

    def _expect(self, kind: str, context: str) -> Token:
        token = self._take()
        if token.kind != kind:
            raise self._unexpected(token, context)
        return token

    def _unexpected(self, token: Token, context: str) -> TemplateError:
        shown = quoted(token.text or token.kind) if token.kind else "EOF"
        return self.error(f"unexpected {shown}" + (f" in {context}" if token.kind else ""), token.at)

    # Text and actions

    def _body(self, *, outermost: bool = False) -> tuple[Body, str]:
        """Up to the {{end}} or {{else}} that ends it, or to the end of the text; and which it was."""
        body: Body = []
        while token := self._take():
            if token.kind != "{{":
                if not token.kind:
                    break
                body.append(Node("text", token.at, token.text))
                continue
            word = self._peek()
            if word.kind != "word" or word.text not in KEYWORDS:
                body.append(self._pipe("command", "}}"))
                continue
            self._next += 1
            if word.text == "end":
                self._expect("}}", "end")
                return body, "end"
            if word.text == "else":
                return body, "else"
            if word.text == "define":
                if not outermost:
                    raise self.error("unexpected {{define}}", word.at)
                self._definition(word)
            else:
                body.append(self._control(word))
        return body, ""

    def _control(self, word: Token) -> Node:
        if word.text in ("template", "block"):
            return self._template(word)
        if word.text not in ("break", "continue"):
            return self._branch(word)
        if not self._loops:
            raise self.error(f"{{{{{word.text}}}}} outside {{{{range}}}}", word.at)
        self._expect("}}", f"{{{{{word.text}}}}}")
        return Node(word.text, word.at, word.text)

    def _template(self, word: Token) -> Node:
        """{{template "name" pipe}}; {{block "name" pipe}}…{{end}} is the same with the definition in its place."""
        name = self._name(word)
        pipes = [] if self._takes("}}") else [self._pipe(word.text, "}}")]
        if word.text == "block":
            if not pipes:
                raise self.error("missing value for block clause", word.at)
            self._define(name)
        return Node("template", word.at, word.text, name, pipes)

    def _definition(self, word: Token) -> None:
        name = self._name(word)
        self._expect("}}", "define clause")
        self._define(name)

    def _name(self, word: Token) -> str:
        return self._unquoted(self._expect("string", f"{word.text} clause"))

    def _define(self, name: str) -> None:
        """Takes the body of a template, which knows nothing of the variables and loops around it."""
        outside = self._variables, self._loops
        self._variables, self._loops = ["$"], 0
        body, end = self._body()
        if end != "end":
            raise self.error(f"unexpected {{{{{end}}}}}" if end else "unexpected EOF", self._peek().at)
        self._variables, self._loops = outside
        self.templates[name] = body

    def _branch(self, word: Token) -> Node:
        known = len(self._variables)
        pipe = self._pipe(word.text, "}}")
        self._loops += word.text == "range"
        body, end = self._body()
        self._loops -= word.text == "range"
        otherwise: Body = []
        if end == "else":
            following = self._peek()
            if following.text == word.text != "range":
                self._next += 1  # {{else if}} is {{else}}{{if}} with one {{end}} for both
                otherwise, end = [self._branch(following)], "end"
            else:
                self._expect("}}", "else")
                otherwise, end = self._body()
        if end != "end":
            raise self.error(f"expected end; found {{{{{end}}}}}" if end else "unexpected EOF", self._peek().at)
        del self._variables[known:]
        return Node(word.text, pipe.at, pipe.text, (body, otherwise), [pipe])

    # Pipelines

    def _pipe(self, context: str, end: str) -> Node:
        start = self._peek().at
        declared, assigns = self._declared(context)
        commands = [self._command(context)]
        while self._takes("|"):
            commands.append(self._command(context))
        stop = self._expect(end, context).at
        return Node("pipe", start, self.text[start:stop].strip(SPACES), (declared, assigns), commands)

    def _declared(self, context: str) -> tuple[list[str], bool]:
        """`$x :=`, `$x =`, and in a range `$i, $x :=`."""
        start, names = self._next, []
        while self._peek().kind == "variable":
            names.append(self._take().text)
            if self._takes(":=", "="):
                assigns = self.tokens[self._next - 1].kind == "="
                if not assigns:
                    self._variables += names
                return names, assigns
            if not self._takes(","):
                break
            if context != "range" or len(names) == 2:
                raise self.error(f"too many declarations in {context}", self._peek().at)
        self._next = start
        return [], False

    def _command(self, context: str) -> Node:
        start = self._peek().at
        operands: Body = []
        while self._peek().kind not in _ENDS:
            if operands and not self._peek().spaced:
                raise self._unexpected(self._peek(), "operand")
            operands.append(self._operand())
        if not operands:
            raise self.error(f"missing value for {context}", start)
        end = self.tokens[self._next - 1]
        return Node("command", start, self.text[start : end.end], None, operands)

    def _operand(self) -> Node:
        token = self._take()
        start, text = token.at, token.text
        if token.kind == "(":
            inner = self._pipe("parenthesized pipeline", ")")
            names, at = self._fields()
            return (
                Node("chain", at, self.text[start : self.tokens[self._next - 1].end], names, [inner])
                if names
                else inner
            )
        if token.kind == "string":
            return Node("constant", start, text, self._unquoted(token))
        if token.kind == "character":
            return Node("constant", start, text, self._character(token))
        if token.kind == "number":
            return Node("constant", start, text, self._number(token))
        if token.kind == "field" and text == ".":
            return Node("dot", start, text)
        if token.kind in ("field", "variable"):
            if token.kind == "variable" and text not in self._variables:
                raise self.error(f"undefined variable {quoted(text)}", start)
            names, at = self._fields()
            whole = self.text[start : self.tokens[self._next - 1].end]
            return Node(token.kind, at if names else start, whole, [text.lstrip("."), *names])
        if text in ("true", "false"):
            return Node("constant", start, text, text == "true")
        if text == "nil":
            return Node("nil", start, text)
        if token.kind != "word":
            raise self._unexpected(token, "operand")
        if text not in self._functions:
            raise self.error(f"function {quoted(text)} not defined", start)
        return Node("function", start, text, text)

    def _fields(self) -> tuple[list[str], int]:
        """The fields that follow at once, and where the first of them is."""
        at, names = self._peek().at, []
        while self._peek().kind == "field" and not self._peek().spaced and len(self._peek().text) > 1:
            names.append(self._take().text[1:])
        return names, at

    def _number(self, token: Token) -> int | float:
        try:
            return int(token.text, 0)
        except ValueError:
            pass
        try:
            return float(token.text)
        except ValueError:
            raise self.error(f"illegal number syntax: {quoted(token.text)}", token.at) from None

    def _character(self, token: Token) -> int:
        """'a' is the number of the character."""
        character = self._unquoted(token)
        if len(character) != 1:
            raise self.error(f"malformed character constant: {token.text}", token.at)
        return ord(character)

    def _unquoted(self, token: Token) -> str:
        """What a string, or a raw one in backquotes, stands for."""
        body = token.text[1:-1]
        if token.text[0] == "`" or "\\" not in body:
            return body
        try:
            if not all(part[:1] in _ESCAPES for part in body.replace("\\\\", "").split("\\")[1:]):
                raise ValueError
            return body.encode("latin-1", "backslashreplace").decode("unicode_escape")
        except ValueError:
            raise self.error("invalid syntax", token.at) from None
