"""Tar archives, read and written as streams."""
