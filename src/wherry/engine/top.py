"""``top``: the processes of a container, as the host's ps prints them."""

import asyncio
from typing import Any

from wherry.model.errors import EngineError, InvalidParameter, NotSupported


async def top(pids: list[int], ps_args: str) -> dict[str, Any]:
    """The API's ContainerTopResponse. ``ps_args`` are ps's own, "-ef" when empty.

    Raises InvalidParameter when ps does not like them or prints no PID column, NotSupported when there is no ps.
    """
    arguments = ps_args.split() or ["-ef"]
    if any(argument.startswith("-") and "=" in argument and "pid=" in argument.lower() for argument in arguments):
        raise InvalidParameter(f"ps arguments may not rename the PID column: {ps_args}")
    lines = await _run_ps(arguments)
    titles = lines[0].split()
    if "PID" not in titles:
        raise EngineError("Couldn't find PID field in ps output")
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    processes = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > column and fields[column] in wanted:
            processes.append(fields)
    return {"Titles": titles, "Processes": processes}


async def _run_ps(arguments: list[str]) -> list[str]:
    try:
        process = await asyncio.create_subprocess_exec(
            "ps", *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError:
        raise NotSupported("top needs the program ps on the host: install it (package procps)") from None
    out, errors = await process.communicate()
    if process.returncode != 0:
        reason = errors.decode(errors="replace").strip().partition("\n")[0]
        raise InvalidParameter(f"Error running ps: {reason or f'exit status {process.returncode}'}")
    return out.decode(errors="replace").splitlines() or [""]
