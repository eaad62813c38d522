"""What outlives a run of the daemon, one directory for each key: its port and timestamps, the claims that it
heard, and the lock that one daemon has on them.

In: values to keep. Out: the values of an earlier run; SystemSetupError where another daemon has them.
Source: docs/operations.md.
"""
