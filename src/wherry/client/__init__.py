"""Speaks the Engine API; small, synchronous, standard library only."""
