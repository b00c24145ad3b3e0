"""Images from Dockerfiles.

``builder.Builder`` is what the API calls. A build is ``solve``: it parses, makes a graph of stages, and walks those
that the target needs, side by side; ``stage`` carries out one stage's instructions, with ``run`` and ``copy`` for the
large ones; ``keys`` says what a step depends on; ``result`` writes the image. Where the context came from
(``context``) and who hears of the progress (``progress``) is nothing that these know.
"""
