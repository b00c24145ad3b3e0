"""What `build` is made of: the context, what is handed over beside it, the progress, and where the result goes."""
