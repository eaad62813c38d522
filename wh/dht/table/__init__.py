"""The servers that a node knows, by distance from its own position, and how many there are in all.

In: nodes that have talked to us. Out: those nearest to a position, those worth a PING or to be remembered.
Source: docs/protocol.md section 5.
"""
