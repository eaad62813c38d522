"""The local socket between the daemon and its command line.

In: requests of local users, their credentials checked. Out: answers and progress, both typed.
Source: The schema is wh.ipc.schema; who may ask what is in docs/operations.md.
"""
