"""`python -m opencode_monitor` is the command `opencode-monitor`."""

from opencode_monitor.cli.app import main

if __name__ == "__main__":
    main()
