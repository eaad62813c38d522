"""Going into an isolated interface's namespace: programs started there, and a proxy into it.

In: a running daemon's namespace, a command or connections. Out: the command's exit code, connections
inside.
Source: RFC 1928 (SOCKS5), RFC 9110 section 9.3.6 (CONNECT).
"""
