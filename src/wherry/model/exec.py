"""One more process in a running container, as the API asks for it."""

import msgspec


class ExecConfig(msgspec.Struct, rename="pascal"):
    """``env`` adds to the container's; ``console_size`` is rows and columns."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    tty: bool = False
    env: list[str] | None = None
    cmd: list[str] = []
    privileged: bool = False
    user: str = ""
    working_dir: str = ""
    console_size: tuple[int, int] | None = None
