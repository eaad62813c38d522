"""Records that a server keeps for others, where records belong, and who may put them.

In: PUTs. Out: what a PUT_ACK says, the record of a FIND.
Source: docs/protocol.md sections 4 and 5.
"""
