"""The Docker Engine API over HTTP: one file a resource."""
