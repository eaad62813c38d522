"""Kademlia (docs/protocol.md section 5): routing table, lookups, storage."""
