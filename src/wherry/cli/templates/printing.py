"""Values as Go's fmt prints them: Sprint, Sprintln and Sprintf."""

from __future__ import annotations

from wherry.cli.templates.errors import CallError
from wherry.cli.templates.quoting import quote
from wherry.cli.templates.values import (
    Duration,
    Pointer,
    Slice,
    Struct,
    Time,
    kind,
    type_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.templates.values import Value

# Go refuses a width or precision beyond this.
MAX_WIDTH = 1_000_000
# No listing has a cell of this many characters; a template that doubles a string in a loop reaches it soon.
MAX_TEXT = 16 << 20


class Flags:
    """What stands between the percent sign and the verb."""

    __slots__ = ("minus", "plus", "precision", "sharp", "space", "width", "zero")

    def __init__(self) -> None:
        self.plus = self.minus = self.sharp = self.space = self.zero = False
        self.width: int | None = None
        self.precision: int | None = None

    def without_signs(self) -> Flags:
        other = Flags()
        other.minus, other.space, other.zero = self.minus, self.space, self.zero
        other.width, other.precision = self.width, self.precision
        return other


PLAIN = Flags()


def limited(text: str) -> str:
    """The text, or CallError when it has grown beyond all reason."""
    if len(text) > MAX_TEXT:
        raise CallError(f"the result is longer than {MAX_TEXT} characters")
    return text


def sprint(*values: Value) -> str:
    """The values side by side, with a space between two that are both no strings."""
    parts: list[str] = []
    after_string = True
    for value in values:
        is_string = isinstance(value, str)
        if parts and not is_string and not after_string:
            parts.append(" ")
        parts.append(display(value))
        after_string = is_string
    return limited("".join(parts))


def sprintln(*values: Value) -> str:
    return limited(" ".join(display(value) for value in values) + "\n")


def display(value: Value) -> str:
    """The value as %v writes it."""
    if type(value) is str:
        return value
    return _Printer("v", PLAIN).value(value, 0)


def sprintf(template: str, *values: Value) -> str:
    return limited(_Format(template, values).run())


class _Format:
    """One call of Sprintf."""

    def __init__(self, template: str, values: tuple[Value, ...]) -> None:
        self.template, self.values = template, values
        self.position = 0
        self.argument = 0
        self.reordered = False
        self.bad_index = False

    def run(self) -> str:
        parts: list[str] = []
        while True:
            percent = self.template.find("%", self.position)
            if percent < 0:
                parts.append(self.template[self.position :])
                break
            parts.append(self.template[self.position : percent])
            self.position = percent + 1
            parts.append(self.directive())
        if not self.reordered and self.argument < len(self.values):
            extra = ", ".join(
                "<nil>" if v is None else f"{type_name(v)}={display(v)}" for v in self.values[self.argument :]
            )
            parts.append(f"%!(EXTRA {extra})")
        return "".join(parts)

    def peek(self) -> str:
        return self.template[self.position : self.position + 1]

    def directive(self) -> str:
        flags = self.flags()
        errors = self.sizes(flags)
        verb = self.peek()
        if not verb:
            return errors + "%!(NOVERB)"
        self.position += 1
        if verb == "%":
            return errors + "%"
        if self.bad_index:
            return errors + f"%!{verb}(BADINDEX)"
        if self.argument >= len(self.values):
            return errors + f"%!{verb}(MISSING)"
        value = self.values[self.argument]
        self.argument += 1
        return errors + format_value(value, verb, flags)

    def flags(self) -> Flags:
        flags = Flags()
        names = {"+": "plus", "-": "minus", "#": "sharp", " ": "space", "0": "zero"}
        self.bad_index = False
        while (character := self.peek()) and character in names:
            setattr(flags, names[character], True)
            self.position += 1
        return flags

    def sizes(self, flags: Flags) -> str:
        """Argument index, width and precision. Returns the complaints that Go writes into the output."""
        errors = ""
        self.index()
        if self.peek() == "*":
            self.position += 1
            flags.width = self.star()
            if flags.width is None:
                errors += "%!(BADWIDTH)"
            elif flags.width < 0:
                flags.width, flags.minus = -flags.width, True
        else:
            flags.width = self.number()
        if self.peek() == ".":
            self.position += 1
            self.index()
            if self.peek() == "*":
                self.position += 1
                flags.precision = self.star()
                if flags.precision is None or flags.precision < 0:
                    flags.precision = None
                    errors += "%!(BADPREC)"
            else:
                flags.precision = self.number() or 0
        self.index()
        flags.zero = flags.zero and not flags.minus
        return errors

    def index(self) -> None:
        """[n]: the argument to go on with, from 1."""
        if self.peek() != "[":
            return
        end = self.template.find("]", self.position)
        digits = self.template[self.position + 1 : end]
        self.reordered = True
        if end < 0 or not digits.isdecimal() or len(digits) > 6 or not 1 <= int(digits) <= len(self.values):
            self.bad_index = True
        else:
            self.argument = int(digits) - 1
        self.position = self.position + 1 if end < 0 else end + 1

    def star(self) -> int | None:
        if self.argument >= len(self.values):
            return None
        value = self.values[self.argument]
        self.argument += 1
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_WIDTH:
            return None
        return int(value)

    def number(self) -> int | None:
        number = None
        while (digit := self.peek()) and digit in "0123456789":
            if number is not None and number > MAX_WIDTH:
                self.position = len(self.template)  # Go gives up on the whole template
                return None
            number = (number or 0) * 10 + int(digit)
            self.position += 1
        return number


def format_value(value: Value, verb: str, flags: Flags) -> str:
    if verb == "T":
        return _padded(type_name(value), flags)
    if verb == "p":
        if isinstance(value, (Pointer, Slice, list, dict)):
            return _padded(_address(value), flags)
        return _bad_verb(verb, value)
    return _Printer(verb, flags).value(value, 0)


class _Printer:
    """Writes a value, and what it holds, with one verb."""

    def __init__(self, verb: str, flags: Flags) -> None:
        self.verb, self.flags = verb, flags
        self.go_syntax = verb == "v" and flags.sharp
        self.names = verb == "v" and flags.plus
        if self.go_syntax or self.names:  # with %v these flags mean something else than with the other verbs
            self.flags = flags.without_signs()

    def value(self, value: Value, depth: int) -> str:
        if value is None:
            return self.nil(depth)
        if not self.go_syntax and self.verb in "vsxXq":
            text = _own_text(value)
            if text is not None:
                return _format_string(text, self.verb, self.flags, value)
        match kind(value):
            case "string":
                return self.string(value)
            case "bool":
                return _padded("true" if value else "false", self.flags) if self.verb in "tv" else self.bad(value)
            case "int":
                return _format_integer(int(value), self.verb, self.flags, value)
            case "float":
                return _format_float(value, self.verb, self.flags)
            case "complex":
                return self.complex(value)
            case "slice":
                return self.slice(value, depth)
            case "map":
                return self.map(value, depth)
            case "struct":
                return self.struct(value, depth)
            case "pointer":
                return self.pointer(value, depth)
        return self.bad(value)

    def bad(self, value: Value) -> str:
        return _bad_verb(self.verb, value)

    def nil(self, depth: int) -> str:
        if self.verb == "v":
            return _padded("interface {}(nil)" if self.go_syntax and depth else "<nil>", self.flags)
        return f"%!{self.verb}(<nil>)"

    def string(self, value: str) -> str:
        return _format_string(str(value), "q" if self.go_syntax else self.verb, self.flags, value)

    def complex(self, value: complex) -> str:
        if self.verb not in "vbgGxXfFeE":
            return self.bad(value)
        real = _format_float(value.real, self.verb, self.flags)
        signed = Flags()
        signed.plus, signed.precision = True, self.flags.precision
        return f"({real}{_format_float(value.imag, self.verb, signed)}i)"

    def slice(self, value: list[Value], depth: int) -> str:
        if self.go_syntax:
            if getattr(value, "is_nil", False):
                return f"{type_name(value)}(nil)"
            return f"{type_name(value)}{{{', '.join(self.value(item, depth + 1) for item in value)}}}"
        return f"[{' '.join(self.value(item, depth + 1) for item in value)}]"

    def map(self, value: dict[str, Value], depth: int) -> str:
        pairs = [f"{self.value(key, depth + 1)}:{self.value(value[key], depth + 1)}" for key in sorted(value)]
        if self.go_syntax:
            if getattr(value, "is_nil", False):
                return f"{type_name(value)}(nil)"
            return f"{type_name(value)}{{{', '.join(pairs)}}}"
        return f"map[{' '.join(pairs)}]"

    def struct(self, value: Value, depth: int) -> str:
        if not isinstance(value, Struct):
            return f"{{{type_name(value)}}}"
        parts = []
        for field in value.type.fields:
            text = self.value(value.values[field.name], depth + 1)
            parts.append(f"{field.name}:{text}" if self.go_syntax or self.names else text)
        if self.go_syntax:
            return f"{type_name(value)}{{{', '.join(parts)}}}"
        return f"{{{' '.join(parts)}}}"

    def pointer(self, value: Pointer, depth: int) -> str:
        if value.target is None:
            if self.go_syntax:
                return f"({value.type.name})(nil)"
            return _padded("<nil>", self.flags) if self.verb == "v" else f"%!{self.verb}({value.type.name}=<nil>)"
        if depth == 0 and isinstance(value.target, (Struct, list, dict)):
            return "&" + self.value(value.target, depth + 1)
        if self.go_syntax:
            return f"({value.type.name})({_address(value)})"
        return _padded(_address(value), self.flags) if self.verb in "vp" else self.bad(value)


def _own_text(value: Value) -> str | None:
    """What the String method of a type that has one gives."""
    if isinstance(value, (Duration, Time)):
        return str(value)
    if isinstance(value, Pointer) and isinstance(value.target, Struct) and value.target.type.stringer:
        return value.target.type.stringer(value.target)
    return None


def _bad_verb(verb: str, value: Value) -> str:
    if value is None:
        return f"%!{verb}(<nil>)"
    return f"%!{verb}({type_name(value)}={display(value)})"


def _address(value: Value) -> str:
    """Go prints where a thing lies. Only that it is a number, and not the same for two things, can be promised."""
    target = value.target if isinstance(value, Pointer) else value
    return f"0xc{id(target) & 0xFFFFFFFFF:09x}"


def _padded(text: str, flags: Flags, zeros: bool = False) -> str:
    width = flags.width or 0
    if flags.minus:
        return text.ljust(width)
    return text.rjust(width, "0" if zeros and flags.zero else " ")


def _format_string(text: str, verb: str, flags: Flags, value: Value) -> str:
    if verb in "vs":
        return _padded(text if flags.precision is None else text[: flags.precision], flags, zeros=True)
    if verb == "q":
        text = text if flags.precision is None else text[: flags.precision]
        if flags.sharp and "`" not in text and text.isprintable():
            return _padded(f"`{text}`", flags)
        return _padded(quote(text, ascii_only=flags.plus), flags)
    if verb in "xX":
        data = text.encode("utf-8", "surrogateescape")
        data = data if flags.precision is None else data[: flags.precision]
        prefix = "0x" if flags.sharp else ""
        digits = (" " + prefix if flags.space else "").join(f"{byte:02x}" for byte in data)
        digits = prefix + digits if digits else ""
        return _padded(digits.upper() if verb == "X" else digits, flags, zeros=True)
    return _bad_verb(verb, value)


INTEGER_VERBS = {"d": ("d", ""), "v": ("d", ""), "b": ("b", "0b"), "o": ("o", "0"), "O": ("o", "0o"), "x": ("x", "0x")}


def _format_integer(number: int, verb: str, flags: Flags, value: Value) -> str:
    if verb in INTEGER_VERBS or verb == "X":
        base, prefix = INTEGER_VERBS[verb.lower() if verb == "X" else verb]
        digits = format(abs(number), base)
        if flags.precision is not None:
            digits = "" if flags.precision == 0 and number == 0 else digits.rjust(flags.precision, "0")
        if verb == "O" or (flags.sharp and verb not in "dv"):
            digits = prefix + digits
        digits = digits.upper() if verb == "X" else digits
        sign = "-" if number < 0 else "+" if flags.plus else " " if flags.space else ""
        if flags.zero and flags.precision is None and flags.width:
            return sign + digits.rjust(flags.width - len(sign), "0")
        return _padded(sign + digits, flags)
    if verb in "cqU":
        character = chr(number) if 0 <= number <= 0x10FFFF and not 0xD800 <= number < 0xE000 else "\ufffd"
        if verb == "c":
            return _padded(character, flags, zeros=True)
        if verb == "q":
            return _padded(quote(character, "'", flags.plus), flags)
        shown = f" '{character}'" if flags.sharp and character.isprintable() else ""
        return _padded(f"U+{number:04X}{shown}", flags)
    return _bad_verb(verb, value)


def _format_float(number: float, verb: str, flags: Flags) -> str:
    if verb not in "vgGeEfF":
        return _bad_verb(verb, number)
    sign = "+" if flags.plus and not str(number).startswith("-") else " " if flags.space and number >= 0 else ""
    if number != number or number in (float("inf"), float("-inf")):
        text = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}[str(number)]
        return _padded(text if flags.plus or text != "+Inf" else sign + text, flags)
    if verb in "eEfF":
        text = format(number, f".{6 if flags.precision is None else flags.precision}{verb}")
    elif flags.precision is not None:
        text = format(number, f".{flags.precision or 1}{'G' if verb == 'G' else 'g'}")
    else:
        text = shortest(number, -4, 6)
        text = text.upper() if verb == "G" else text
    text = sign + text
    if flags.zero and flags.width and not flags.minus:
        lead = text[:1] if text[:1] in "+- " else ""
        return lead + text[len(lead) :].rjust(flags.width - len(lead), "0")
    return _padded(text, flags)


def shortest(number: float, low: int, high: int) -> str:
    """The fewest digits that read back as the number; with an exponent below 10**low and from 10**high on."""
    digits, _, exponent = f"{number:.17e}".partition("e")
    for precision in range(17):
        digits, _, exponent = f"{number:.{precision}e}".partition("e")
        if float(f"{digits}e{exponent}") == number:
            break
    power = int(exponent)
    if number == 0:
        return "-0" if str(number).startswith("-") else "0"
    if power < low or power >= high:
        return f"{digits}e{'-' if power < 0 else '+'}{abs(power):02d}"
    places = max(len(digits.partition(".")[2]) - power, 0)
    return f"{number:.{places}f}"
