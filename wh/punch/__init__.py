"""Hole punching: attempts with rounds, their schedules and budgets, and the search for a random port.

In: offers, what we know of both NATs, PROBEs. Out: PROBEs, sockets opened and closed, a direct path or
none.
Source: docs/protocol.md section 7, "Hole punching".
"""
