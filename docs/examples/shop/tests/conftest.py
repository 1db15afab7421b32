"""Brings the testing kit: `application` is this application on a fresh database, one per test."""

pytest_plugins = ["byodpp.testing"]
