"""Byte streams between two programs: nothing is lost without somebody being told."""
