"""What all parts of the engine share: events, commands, requests with timeouts, timers, limits, known nodes.

In: events and the time. Out: commands. No clock, socket, randomness or thread of its own.
Source: docs/design.md section 3; budgets of docs/protocol.md section 2.
"""
