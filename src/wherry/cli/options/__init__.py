"""The values of the CLI's flags, one file a kind."""
