"""Container logs: written, read, shipped."""
