"""Rows as files, for other programs: CSV, JSON lines, Parquet."""
