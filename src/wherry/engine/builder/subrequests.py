"""What can be asked of a Dockerfile without building it: its checks, its targets, and what a target takes.

The answers are BuildKit's: JSON for programs, text for people, and for checks the exit code.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from wherry.common.errors import NotSupported
from wherry.common.ignore import PatternMatcher
from wherry.dockerfile import instructions as ins
from wherry.dockerfile import linter
from wherry.dockerfile.expansion import expand
from wherry.dockerfile.lexer import DockerfileError, Position
from wherry.dockerfile.linter import EnvironmentOf, Finding
from wherry.dockerfile.parser import parse
from wherry.dockerfile.stages import Graph, Stage, build_graph

_VERSION = "1.0.0"
_TABLE_GAP = 3

Answer = dict[str, bytes]


class Question(msgspec.Struct, frozen=True):
    """A Dockerfile, and what is given for it."""

    text: bytes
    name: str
    target: str = ""
    arguments: Mapping[str, str] = {}
    ignored: PatternMatcher | None = None
    environment_of: EnvironmentOf = lambda image: None


def ask(subject: str, question: Question) -> Answer:
    """``subject`` is "lint", "outline", "targets" or "subrequests.describe". Raises NotSupported, DockerfileError."""
    if subject not in _ANSWERS:
        raise NotSupported(f"unsupported request {subject}: expected {', '.join(_ANSWERS)}")
    return {**_ANSWERS[subject](question), "version": _VERSION.encode()}


def find_warnings(question: Question) -> tuple[list[Finding], bool]:
    """What the checks find, and whether that is to end a build. Raises DockerfileError."""
    file = parse(question.text, question.name)
    checks = linter.checks_of(file, question.arguments.get("BUILDKIT_DOCKERFILE_CHECK", ""))
    found = linter.lint(
        file,
        question.text.decode("utf-8", "replace"),
        checks,
        given=question.arguments,
        ignored=question.ignored,
        environment_of=question.environment_of,
    )
    return found, checks.error


# --- checks


def _lint(question: Question) -> Answer:
    failure: DockerfileError | None = None
    found: list[Finding] = []
    try:
        found, _ = find_warnings(question)
        build_graph(parse(question.text, question.name), target=question.target, given=question.arguments)
    except DockerfileError as error:
        failure = error
    source = {"filename": question.name, "data": b64encode(question.text).decode(), "language": "Dockerfile"}
    answer: dict[str, Any] = {
        "warnings": [
            {
                "ruleName": each.rule,
                "description": each.description,
                "url": each.url,
                "detail": each.detail,
                "location": _location(each.position),
            }
            for each in found
        ],
        "sources": [source],
    }
    text = "".join(_shown(each) for each in found)
    if failure is not None:
        answer["buildError"] = {"message": failure.reason, "location": _location(failure.position)}
        text += f"\n{failure.message}\n"
    status = b"1" if found or failure else b"0"
    return {"result.json": _json(answer), "result.txt": text.encode(), "result.statuscode": status}


def _shown(each: Finding) -> str:
    excerpt = f"{each.position.excerpt()}\n" if each.position.text else ""
    return f"\nWARNING: {each.rule} - {each.url}\n{each.detail}\n{excerpt}"


def _location(position: Position) -> dict[str, Any]:
    end = max(position.end, position.line)
    return {"ranges": [{"start": {"line": position.line}, "end": {"line": end}}]}


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)


# --- targets, and what they take


def _targets(question: Question) -> Answer:
    graph = _graph(question)
    lines = question.text.decode("utf-8", "replace").splitlines()
    found: list[dict[str, Any]] = []
    for stage in graph.stages:
        described: dict[str, Any] = {
            "name": stage.name,
            "default": stage.index == len(graph.stages) - 1,
            "description": _comment(lines, stage.position, stage.name),
            "base": graph.stages[stage.base.stage].label if stage.base.stage is not None else stage.base.image,
            "platform": str(stage.platform or ""),
            "location": _location(stage.position),
        }
        found.append({name: value for name, value in described.items() if value})
    rows = [("TARGET", "DESCRIPTION")]
    for each in found:
        name = each.get("name", "")
        if each.get("default"):
            name = f"{name} (default)".strip()
        rows.append((name, each.get("description", "")))
    answer = {"targets": found, "sources": [b64encode(question.text).decode()]}
    return {"result.json": _json(answer), "result.txt": _table(rows, 1).encode()}


def _outline(question: Question) -> Answer:
    graph = _graph(question)
    lines = question.text.decode("utf-8", "replace").splitlines()
    target = graph.target
    arguments = list(_arguments(question, graph, lines))
    mounts = list(_mounts(graph.needed()))
    secrets = _required(mounts, "secret")
    agents = _required(mounts, "ssh")
    caches = [{"ID": each.cache_id or each.target, "location": at} for each, at in mounts if each.type == "cache"]
    answer = {
        "name": target.name,
        "description": _comment(lines, target.position, target.name),
        "args": arguments,
        "secrets": secrets,
        "ssh": agents,
        "cache": caches,
        "sources": [b64encode(question.text).decode()],
    }
    parts = []
    if answer["name"] or answer["description"]:
        rows = [("TARGET:", target.name or "(default)")]
        rows += [("DESCRIPTION:", str(answer["description"]))] if answer["description"] else []
        parts.append(_table(rows, 1))
    if arguments:
        shown = [(each["name"], each.get("value", ""), each.get("description", "")) for each in arguments]
        parts.append(_table([("BUILD ARG", "VALUE", "DESCRIPTION"), *shown], _TABLE_GAP))
    for title, found in (("SECRET", secrets), ("SSH", agents)):
        if found:
            rows = [(each["name"], "true" if each.get("required") else "") for each in found]
            parts.append(_table([(title, "REQUIRED"), *rows], _TABLE_GAP))
    if caches:
        parts.append(_table([("CACHE MOUNT ID",), *((str(each["ID"]),) for each in caches)], _TABLE_GAP))
    kept = {name: value for name, value in answer.items() if value}
    return {"result.json": _json(kept), "result.txt": "\n".join([*parts, ""]).encode() if parts else b""}


def _graph(question: Question) -> Graph:
    return build_graph(parse(question.text, question.name), target=question.target, given=question.arguments)


def _arguments(question: Question, graph: Graph, lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The arguments that the target, what it rests on and the names of its bases may use, each once."""
    shared = [each for each in parse(question.text, question.name).instructions if isinstance(each, ins.Arg)]
    first = graph.stages[0].position.line
    own = [each for stage in graph.needed() for each in stage.instructions if isinstance(each, ins.Arg)]
    values: dict[str, str] = {}
    seen: set[str] = set()
    for instruction in [*(each for each in shared if each.position.line < first), *own]:
        for declared in instruction.declarations:
            value = question.arguments.get(declared.name, declared.default)
            if value is not None:
                values[declared.name] = expand(value, values, escape=graph.escape)
            if declared.name not in seen:
                seen.add(declared.name)
                described = {
                    "name": declared.name,
                    "description": _comment(lines, instruction.position, declared.name),
                    "value": values.get(declared.name, graph.arguments.shared.get(declared.name, "")),
                    "location": _location(instruction.position),
                }
                yield {name: value for name, value in described.items() if value}


def _mounts(stages: Iterable[Stage]) -> Iterator[tuple[ins.Mount, dict[str, Any]]]:
    for stage in stages:
        for instruction in stage.instructions:
            for mount in instruction.mounts if isinstance(instruction, ins.Run) else ():
                yield mount, _location(instruction.position)


def _required(mounts: Iterable[tuple[ins.Mount, dict[str, Any]]], kind: str) -> list[dict[str, Any]]:
    """Secrets or agents by their names, required where one of their mounts says so."""
    found: dict[str, dict[str, Any]] = {}
    for mount, at in mounts:
        if mount.type == kind:
            usual = "default" if kind == "ssh" else mount.target.rpartition("/")[2]
            name = mount.cache_id or mount.source or usual
            each = found.setdefault(name, {"name": name, "location": at})
            if mount.required:
                each["required"] = True
    return list(found.values())


def _comment(lines: Sequence[str], position: Position, name: str) -> str:
    """What the comment above an instruction says of it: "# name description"."""
    line = lines[position.line - 2].strip() if 2 <= position.line <= len(lines) + 1 else ""
    words = line.removeprefix("#").split(maxsplit=1)
    return words[1] if line.startswith("#") and len(words) == 2 and name and words[0].lower() == name.lower() else ""


def _table(rows: Sequence[tuple[str, ...]], gap: int) -> str:
    widths = [max(map(len, column)) + gap for column in zip(*rows, strict=True)]
    shown = ("".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in shown)


def _describe(question: Question) -> Answer:
    found = [
        {"name": f"frontend.{name}", "version": _VERSION, "type": "rpc", "description": text}
        for name, text in _DESCRIPTIONS.items()
    ]
    rows = [("NAME", "VERSION", "DESCRIPTION"), *((each["name"], _VERSION, each["description"]) for each in found)]
    return {"result.json": _json(found), "result.txt": _table(rows, 1).encode()}


_DESCRIPTIONS = {
    "lint": "Checks a Dockerfile",
    "outline": "Lists what the target of a build takes",
    "targets": "Lists the targets that can be built",
    "subrequests.describe": "Lists what can be asked",
}
_ANSWERS: dict[str, Callable[[Question], Answer]] = {
    "lint": _lint,
    "outline": _outline,
    "targets": _targets,
    "subrequests.describe": _describe,
}
