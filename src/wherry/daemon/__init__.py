"""``wherry daemon``: reads the flags and daemon.json, opens the engine, serves the API, and ends when it is told to.

Containers live on when the engine ends: their monitors hold them, and the next engine finds them. The first SIGTERM or
SIGINT lets requests under way finish, the second ends the engine at once. SIGHUP reads daemon.json again.
"""
