"""The ``tag`` of a log: a template such as "{{.ImageName}}/{{.Name}}", of which Docker's fields are known."""

import re
from collections.abc import Callable

from wherry.model.container import Container
from wherry.model.errors import InvalidParameter

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_SHORT_ID = 12
_FIELDS: dict[str, Callable[[Container], str]] = {
    ".ID": lambda container: container.id[:_SHORT_ID],
    ".FullID": lambda container: container.id,
    ".Name": lambda container: container.name,
    ".FullName": lambda container: f"/{container.name}",
    ".ImageName": lambda container: container.image,
    ".ImageFullName": lambda container: container.image,
    ".ImageID": lambda container: container.image_id[:_SHORT_ID],  # with its "sha256:", as Docker cuts it
    ".ImageFullID": lambda container: container.image_id,
    ".DaemonName": lambda container: "docker",
    ".Command": lambda container: " ".join((container.path, *container.args)),
}


def check(template: str) -> None:
    """Raises InvalidParameter for what is no template, or has a field that containers do not have."""
    if "{{" in _ACTION.sub("", template):
        raise InvalidParameter("template: log-tag:1: unclosed action")
    for action in _ACTION.finditer(template):
        if action[1] not in _FIELDS:
            raise InvalidParameter(
                f'template: log-tag:1:{action.start(1)}: executing "log-tag" at <{action[1]}>: '
                f"can't evaluate it: a log's tag may have {', '.join(_FIELDS)}"
            )


def render(template: str, container: Container) -> str:
    return _ACTION.sub(lambda action: _FIELDS[action[1]](container), template)
