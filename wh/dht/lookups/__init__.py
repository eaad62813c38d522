"""Lookups on disjoint paths: whom to ask, whom to believe, and how far those are followed who name others.

In: a key to look for, NODES. Out: PINGs and FINDs, the servers that answered, records.
Source: docs/protocol.md section 5.
"""
