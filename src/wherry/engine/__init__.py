"""What a user means: containers, images, execs, events. The only place that changes state."""
