"""The Docker Engine API: HTTP to engine and back.

``routes`` is the table: every method and path, and the handler it goes to. A handler is a small function: it reads the
request (``request``, ``decode``), calls one method of the engine, and answers (``response``). ``server`` is what stands
around the handlers, ``hijack`` is what becomes of a connection that turns into a stream, and ``versions`` holds what
older clients expect otherwise.
"""
