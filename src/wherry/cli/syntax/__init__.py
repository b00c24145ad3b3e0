"""The small languages inside container flags, one file each: what a flag's text means, and its errors."""
