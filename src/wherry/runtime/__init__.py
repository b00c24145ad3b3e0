"""Turns a spec into a process: launcher, monitor, init, exec, console, log."""
