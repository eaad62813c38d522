"""The process that stays root for a daemon that does not: a table of typed requests, nothing beyond it."""
