"""Relaying: the tables of who serves it (service, tables), and the relays that a client has (reserver, link,
...).

In: RESERVE, OPEN, CLOSE and their answers, reachability. Out: channels in the forwarder, reservations,
channels to peers.
Source: docs/protocol.md section 8.
"""
