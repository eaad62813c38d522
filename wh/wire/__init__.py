"""What goes on the wire (docs/protocol.md): addresses, messages, records."""
