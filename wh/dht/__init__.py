"""Kademlia: routing table, lookups on disjoint paths, publishing and storing records.

In: contacts, NODES, PUTs, keys to look for. Out: records found, requests to make, what we store for others.
Source: docs/protocol.md sections 4 and 5.
"""
