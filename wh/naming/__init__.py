"""Host names of the overlay, and the block of them in the hosts file.

In: a network, the hosts file. Out: names and addresses; the hosts file with our lines changed, all others
as they were.
Source: hosts(5).
"""
