"""What `cp` is made of: docker's rules for paths, and tars of local files, out and in."""
