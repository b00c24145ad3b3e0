"""Networks, endpoints and ports of containers."""
