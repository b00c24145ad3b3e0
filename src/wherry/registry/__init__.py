"""Registries: the distribution protocol, log-ins, addresses, platforms. Knows nothing of what is stored here."""
