"""The network file: read, checked, edited, written.

In: UTF-8 text. Out: a Network, or an error with line and column; the text of an edit that leaves all else
as it is.
Source: README, "The network file".
"""
