"""Whole networks of engines in one process, with virtual time."""
