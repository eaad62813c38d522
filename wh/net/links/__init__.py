"""Interfaces of this host, or of any network namespace: TUN devices, addresses, routes, by netlink.

In: what an interface shall have. Out: open TUN devices and sockets, notices of changes; SystemSetupError
where the kernel refuses.
Source: docs/design.md section 4; rtnetlink(7).
"""
