"""The kernel's facilities, one file each. Knows nothing of containers."""
