"""What a program of ours does with this machine beyond the network: files that others may have a hand in,
other Pythons, the standard streams, signals, exit codes, memory.

In: paths, contents, modules to run. Out: files written whole or not at all; SystemSetupError or UnsafePlace
where a place is not ours alone.
Source: docs/security.md section 4; openat2(2), path_resolution(7).
"""
