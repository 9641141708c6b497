"""The command line: thin commands over repositories and the import."""
