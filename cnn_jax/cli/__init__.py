"""The command line: flags, presets, help, and one module a command."""
