"""Processes that touch untrusted files on the engine's behalf."""
