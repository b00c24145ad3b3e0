"""Content, layers, snapshots and images on disk."""
