"""Containers, as the engine holds them."""
