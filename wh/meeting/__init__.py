"""Two programs that meet by an invitation and talk over one stream: what 0nc is made of.

In: an invitation, or none where one is to be made; callbacks of the program. Out: a connected socket to the
other end, the path it has, check words.
Source: docs/protocol.md sections 9 and 11.
"""
