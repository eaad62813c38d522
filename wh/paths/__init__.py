"""What happens between us and each trusted peer: where it is, which path carries data, its MTU, and its
silence. trusted decides; each thing that has a state of its own is a module.

In: messages of the peer, records, channels, what the data plane heard or missed. Out: commands that set its
paths.
Source: docs/protocol.md section 7.
"""
