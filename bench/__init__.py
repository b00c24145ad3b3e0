"""Measures wherry beside Docker and Podman, on the same machine and in the same run: ``make bench``.

Each engine is a private one (its own data, its own network namespace) and ends with the run. The engines take turns, so
that what the machine does meanwhile falls on all of them, and the median of the rounds counts.
"""
