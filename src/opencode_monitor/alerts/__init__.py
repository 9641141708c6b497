"""Alerts: rules over the numbers of a database, what they remember, and the channels that they are told by."""
