"""The database underneath: engines, types, bulk loading and migrations, free of any domain."""
