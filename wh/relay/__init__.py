"""Relaying: the tables of who serves it, and how a client chooses."""
