"""Image registries: the distribution protocol, who one is to them, and which of them are trusted."""
