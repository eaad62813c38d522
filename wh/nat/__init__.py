"""What kind of NAT this node is behind, and the addresses it can be reached at; TCP where UDP is blocked.

In: what servers and gateways say that they see of us, KNOCKs. Out: NAT behaviour, candidates, proofs of
reachability.
Source: docs/protocol.md section 6; RFC 4787.
"""
