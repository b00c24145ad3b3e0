"""What the tests stand on: a private engine, a terminal, the API's definition, and a count of what is left behind."""
