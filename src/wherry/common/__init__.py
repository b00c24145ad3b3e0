"""What client and engine both speak: references, platforms, values, times, ignore files, and their errors.

Standard library only, and little of that: the command line's start is made of what is imported here.
"""
