"""Byte streams between two programs: nothing is lost without somebody being told.

In: descriptors of this end, a TCP connection to the other. Out: all bytes written and acknowledged, or an
error.
Source: docs/protocol.md section 11.
"""
