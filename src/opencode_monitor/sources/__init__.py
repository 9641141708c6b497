"""Readers of OpenCode's own data: files and databases in, typed records out."""
