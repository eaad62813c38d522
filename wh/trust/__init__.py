"""Aliases and invitations: how a node that a network file does not know yet becomes one that it trusts."""
