"""Aggregates per session, computed set-based from the tables below them."""
