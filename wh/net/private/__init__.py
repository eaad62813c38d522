"""A private network namespace, which anybody may make, with an interface of ours in it: no root, and the host
stays as it is.

In: the name of an interface. Out: its TUN or packet socket, netlink sockets of the namespace;
SystemSetupError where this host lets nobody make namespaces.
Source: docs/design.md section 4; user_namespaces(7).
"""
