"""The only floor with an event loop, sockets, clocks and randomness: it carries out what the engine commands.

In: datagrams, netlink notices, answers of gateways. Out: events for the engine; datagrams, interfaces,
routes, port mappings.
Source: docs/protocol.md sections 1 and 2; RFC 6886, RFC 6887, UPnP IGD below mapping/.
"""
