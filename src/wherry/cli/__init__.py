"""The wherry command, one file a command group, loaded when used."""

import gc

gc.set_threshold(50_000)  # what is imported stays: to look through it again and again takes a millisecond
