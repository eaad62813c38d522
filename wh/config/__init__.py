"""The network file."""
