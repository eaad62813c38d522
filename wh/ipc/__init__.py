"""The local socket between the daemon and its command line."""
