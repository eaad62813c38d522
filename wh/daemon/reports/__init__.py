"""What a daemon tells of itself: `wh show` and `wh inspect`, `wh netcheck`, `wh health`.

In: snapshots of the parts. Out: the structs of wh.ipc.schema.
Source: docs/operations.md.
"""
