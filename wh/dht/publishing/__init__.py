"""Our own record, put where it belongs and kept there; the records of others, found.

In: what our record is to say, a key to look for. Out: lookups, PUTs, records.
Source: docs/protocol.md sections 4 and 5.
"""
