"""The Dockerfile: text to instructions to a graph of stages. Pure: nothing here reads a file or starts a process.

``parser.parse`` makes instructions of a text, ``stages`` a graph of them, ``substitution`` replaces their variables and
``configure`` applies them to an image's configuration. ``changes`` is what ``commit --change`` needs, ``ignore`` is
.dockerignore, ``printing`` turns instructions back into text.
"""
