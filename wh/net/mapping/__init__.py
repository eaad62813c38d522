"""Ports that the default gateway maps to us, by PCP, NAT-PMP or UPnP.

In: gateways, ports wanted, their answers, which nobody believes without proof. Out: mappings with their
ends, as events.
Source: docs/protocol.md section 6; RFC 6887, RFC 6886, UPnP IGD 1 and 2.
"""
