"""The daemon: a running node made of its parts, what `wh` asks of it, and what its network file asks of the
host.

In: a network file, a key, signals, requests over IPC. Out: readiness, answers, files of state; the host
configured, and put back.
Source: docs/operations.md; of the protocol only who may join (docs/protocol.md section 9).
"""
