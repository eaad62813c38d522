"""The parts of `0nc`."""
