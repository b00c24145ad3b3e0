"""Images: stored, pulled, pushed."""
