"""What goes on the wire: addresses, messages, records, and their encoding.

In: untrusted bytes, from which only BadPacket comes. Out: checked values; bytes of values.
Source: docs/protocol.md sections 1, 3 and 4.
"""
