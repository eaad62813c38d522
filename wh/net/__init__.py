"""The only part with an event loop, sockets, clock and randomness."""
