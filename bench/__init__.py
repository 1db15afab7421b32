"""Measurements: programs that `make bench` runs, each with the claim it tests."""
