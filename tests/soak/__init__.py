"""Many clients do whatever comes to their minds while everything that an engine consists of is killed.

``make soak MINUTES=8``, or ``python -m tests.soak 8 --seed 2``. Only what belongs to the soak's own engine is touched.
"""
