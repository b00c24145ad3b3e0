"""The wherry command, one file a command group, loaded when used."""
