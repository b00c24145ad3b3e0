"""The engine's nouns as typed structs, in the shapes of the Engine API. No behaviour."""
