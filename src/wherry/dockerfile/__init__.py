"""The Dockerfile: text to instructions to a graph of stages. Pure: nothing here reads a file or starts a process.

``parser.parse`` makes instructions of a text, ``stages`` a graph of them, ``config`` replaces their variables
and applies them to an image's configuration, ``ignore`` is .dockerignore.
"""
