"""Bridges, addresses, published ports, the firewall's rules and the name service. Knows nothing of containers."""
