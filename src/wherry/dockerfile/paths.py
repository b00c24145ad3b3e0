"""Paths as texts."""


def clean_path(path: str) -> str:
    """The shortest spelling: no ``.``, no double or trailing slashes, and no ``..`` but at the beginning."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", ".") and not (part == ".." and path.startswith("/")):
            parts.append(part)
    return ("/" if path.startswith("/") else "") + "/".join(parts) or "."
