"""A WireGuard device of its own, and the cross-platform configuration protocol (UAPI), which `wg` speaks.

In: connections of `wg`, local addresses. Out: a data plane that is set accordingly.
Source: the WireGuard project's "Cross-platform Interface".
"""
