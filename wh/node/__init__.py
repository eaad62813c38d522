"""The engine put together: Node.handle(event, now) gives commands. Answers to other nodes, and to users'
questions.

In: events, with the time. Out: commands, snapshots for people, the next deadline.
Source: docs/protocol.md section 3 (messages), 5 (errands), 1 (BEACON).
"""
