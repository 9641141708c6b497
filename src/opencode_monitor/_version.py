"""The version, read by the build and printed by `opencode-monitor --version`."""

__version__ = "0.1.0"
