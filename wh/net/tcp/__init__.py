"""Paths over TLS for nodes whose UDP is blocked, and the listener that public nodes offer them.

In: connections, frames of at most 2,048 bytes. Out: datagrams at a UDP port on loopback, where the data
plane has them.
Source: docs/protocol.md section 1, "Over TCP".
"""
