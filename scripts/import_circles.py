"""Finds import circles between the files of the package: what is imported while a module loads ("make check").

Imports within functions, and those for type checkers alone, do not count: they are not there when a module loads.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"


def imports(body: list[ast.stmt], modules: set[str]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.ImportFrom) and statement.module:
            for name in statement.names:
                below = f"{statement.module}.{name.name}"
                yield below if below in modules else statement.module
        elif isinstance(statement, ast.Import):
            yield from (name.name for name in statement.names)
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" not in ast.dump(statement.test):
            yield from imports(statement.body, modules)
            yield from imports(statement.orelse, modules)
        elif isinstance(statement, ast.If):
            yield from imports(statement.orelse, modules)
        elif isinstance(statement, ast.Try | ast.With | ast.ClassDef):
            yield from imports(statement.body, modules)


def circles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """Every way that comes back to where it began, once, as the modules on it."""
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> Iterator[list[str]]:
        if module in way:
            yield way[way.index(module) :]
        elif module not in done:
            for each in sorted(graph[module]):
                yield from walk(each, [*way, module])
            done.add(module)

    for module in sorted(graph):
        yield from walk(module, [])


def main() -> int:
    files = {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SOURCE.rglob("*.py")
    }
    modules = set(files)
    graph = {
        module: set(imports(ast.parse(path.read_text()).body, modules)) & modules - {module}
        for module, path in files.items()
    }
    found = [" -> ".join([*circle, circle[0]]) for circle in circles(graph)]
    print("\n".join(f"import circle: {circle}" for circle in found) or f"no import circle in {len(files)} files")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
