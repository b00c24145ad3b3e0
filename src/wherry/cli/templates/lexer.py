"""Cuts a template into tokens.

An error ends the list as a token of its own, so that the parser, which reads from the left, still reports an earlier
mistake first.
"""

from __future__ import annotations

from wherry.cli.templates.quoting import quote

LEFT, RIGHT = "{{", "}}"
SPACES = " \t\r\n"
KEYWORDS = frozenset(
    ("block", "break", "continue", "define", "else", "end", "if", "range", "nil", "template", "with"),
)

# Kinds that are their own text ("(", "=", "|", ":=", "{{", keywords, ".") need no name of their own.
TEXT, EOF, ERROR, SPACE = "text", "eof", "error", "space"
FIELD, VARIABLE, IDENTIFIER, BOOL = "field", "variable", "identifier", "bool"
NUMBER, CHARACTER, STRING, RAW_STRING, OTHER = "number", "character", "string", "raw string", "other"

TERMINATORS = frozenset(SPACES + ".,|:)(=")
DIGITS = {"0x": "0123456789abcdefABCDEF_", "0o": "01234567_", "0b": "01_"}
DECIMAL = "0123456789_"


class Token:
    """`position` is in characters from the start of the template, `line` counts from 1."""

    __slots__ = ("kind", "line", "position", "text")

    def __init__(self, kind: str, text: str, position: int, line: int) -> None:
        self.kind, self.text, self.position, self.line = kind, text, position, line

    def __str__(self) -> str:
        if self.kind == EOF:
            return "EOF"
        if self.kind == ERROR:
            return self.text
        if self.kind in KEYWORDS or self.kind == ".":
            return f"<{self.text}>"
        if len(self.text) > 10:
            return quote(self.text[:10]) + "..."
        return quote(self.text)


class _LexError(Exception):
    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


def tokenize(text: str) -> list[Token]:
    """The tokens of a template; the last one is EOF or ERROR."""
    return _Lexer(text).run()


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.tokens: list[Token] = []
        self.line = 1
        self.counted = 0  # newlines are counted up to here

    def run(self) -> list[Token]:
        try:
            while self.position < len(self.text):
                if self.plain_text():
                    self.action()
            self.add(EOF, len(self.text), len(self.text))
        except _LexError as error:
            self.add(ERROR, error.position, error.position)
            self.tokens[-1].text = str(error)
        return self.tokens

    def add(self, kind: str, start: int, end: int) -> None:
        self.line += self.text.count("\n", self.counted, start)
        self.counted = max(self.counted, start)
        self.tokens.append(Token(kind, self.text[start:end], start, self.line))

    def plain_text(self) -> bool:
        """Text up to the next action, of which it takes the left delimiter. False at the end; skips comments."""
        text, start = self.text, self.position
        while True:
            delimiter = text.find(LEFT, start)
            end = len(text) if delimiter < 0 else delimiter
            body = end + len(LEFT)
            shown = text[start:end]
            if delimiter >= 0 and text.startswith("-", body) and text[body + 1 : body + 2] in tuple(SPACES):
                shown = shown.rstrip(SPACES)
                body += 2
            if shown:
                self.add(TEXT, start, start + len(shown))
            if delimiter < 0:
                self.position = end
                return False
            if not text.startswith("/*", body):
                self.add(LEFT, delimiter, delimiter + len(LEFT))
                self.position = body
                return True
            self.position = body
            self.skip_comment()
            start = self.position

    def skip_comment(self) -> None:
        start = self.position
        end = self.text.find("*/", start)
        if end < 0:
            raise _LexError(start, "unclosed comment")
        length, trims = self.right_delimiter(end + 2)
        if not length:
            raise _LexError(start, "comment ends before closing delimiter")
        self.leave_action(end + 2 + length, trims)

    def right_delimiter(self, position: int) -> tuple[int, bool]:
        """The length of the right delimiter at a position (0: none there), and whether it trims what follows."""
        if self.text.startswith(RIGHT, position):
            return len(RIGHT), False
        if self.text[position : position + 1] in tuple(SPACES) and self.text.startswith("-" + RIGHT, position + 1):
            return len(RIGHT) + 2, True
        return 0, False

    def leave_action(self, position: int, trims: bool) -> None:
        while trims and position < len(self.text) and self.text[position] in SPACES:
            position += 1
        self.position = position

    def action(self) -> None:
        """The tokens of one action, its right delimiter with it."""
        depth = 0
        while True:
            start = self.position
            length, trims = self.right_delimiter(start)
            if length:
                if depth:
                    raise _LexError(start, "unclosed left paren")
                self.add(RIGHT, start, start + length)
                self.leave_action(start + length, trims)
                return
            if start >= len(self.text):
                raise _LexError(start, "unclosed action")
            character = self.text[start]
            depth += (character == "(") - (character == ")")
            if depth < 0:
                raise _LexError(start, "unexpected right paren")
            kind, end = self.token_at(start, character)
            self.add(kind, start, end)
            self.position = end

    def token_at(self, start: int, character: str) -> tuple[str, int]:
        following = self.text[start + 1 : start + 2]
        if character in SPACES:
            return SPACE, self.end_of_spaces(start)
        if character in "=|()":
            return character, start + 1
        if character == ":":
            if following != "=":
                raise _LexError(start, "expected :=")
            return ":=", start + 2
        if character == '"':
            return STRING, self.end_of_quoted(start, "unterminated quoted string")
        if character == "'":
            return CHARACTER, self.end_of_quoted(start, "unterminated character constant")
        if character == "`":
            end = self.text.find("`", start + 1)
            if end < 0:
                raise _LexError(start, "unterminated raw quoted string")
            return RAW_STRING, end + 1
        if character == "$":
            return VARIABLE, self.end_of_word(start + 1)
        if character == "." and following not in tuple("0123456789"):
            end = self.end_of_word(start + 1)
            return (FIELD if end > start + 1 else "."), end
        if character in "+-.0123456789":
            return NUMBER, self.end_of_number(start)
        if _is_alphanumeric(character):
            end = self.end_of_word(start)
            word = self.text[start:end]
            if word in KEYWORDS:
                return word, end
            return (BOOL if word in ("true", "false") else IDENTIFIER), end
        if character.isascii() and character.isprintable():
            return OTHER, start + 1
        raise _LexError(start, f"unrecognized character in action: {_code_point(character)}")

    def end_of_spaces(self, start: int) -> int:
        end = start
        while end < len(self.text) and self.text[end] in SPACES:
            end += 1
        # The last space may belong to a trimming delimiter, " -}}".
        return end - 1 if end - start > 1 and self.text.startswith("-" + RIGHT, end) else end

    def end_of_word(self, end: int) -> int:
        while end < len(self.text) and _is_alphanumeric(self.text[end]):
            end += 1
        after = self.text[end : end + 1]
        if after and after not in TERMINATORS and not self.text.startswith(RIGHT, end):
            raise _LexError(end, f"bad character {_code_point(after)}")
        return end

    def end_of_quoted(self, start: int, message: str) -> int:
        delimiter, end = self.text[start], start + 1
        while end < len(self.text) and self.text[end] != "\n":
            if self.text[end] == delimiter:
                return end + 1
            end += 2 if self.text[end] == "\\" and self.text[end + 1 : end + 2] != "\n" else 1
        raise _LexError(start, message)

    def end_of_number(self, start: int) -> int:
        """Where a number ends: signs, bases, fractions, exponents; the parser judges what is between."""
        end = self.end_of_simple_number(start)
        if self.text[end : end + 1] in ("+", "-"):  # complex, 1+2i
            end = self.end_of_simple_number(end)
        if _is_alphanumeric(self.text[end : end + 1]):
            raise _LexError(start, f"bad number syntax: {quote(self.text[start : end + 1])}")
        return end

    def end_of_simple_number(self, position: int) -> int:
        if self.text[position : position + 1] in ("+", "-"):
            position += 1
        base = self.text[position : position + 2].lower()
        digits = DIGITS.get(base, DECIMAL)
        position = self.skip(position + 2 if base in DIGITS else position, digits)
        if self.text.startswith(".", position):
            position = self.skip(position + 1, digits)
        exponents = {"0x": ("p", "P")}.get(base, ("e", "E") if digits is DECIMAL else ())
        if self.text[position : position + 1] in exponents:
            position += 1
            if self.text[position : position + 1] in ("+", "-"):
                position += 1
            position = self.skip(position, DECIMAL)
        return position + self.text.startswith("i", position)

    def skip(self, position: int, characters: str) -> int:
        while position < len(self.text) and self.text[position] in characters:
            position += 1
        return position


def _is_alphanumeric(character: str) -> bool:
    return character == "_" or character.isalpha() or character.isdigit()


def _code_point(character: str) -> str:
    shown = f" '{character}'" if character.isprintable() else ""
    return f"U+{ord(character):04X}{shown}"
