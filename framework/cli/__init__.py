"""The command line: `fw`. Nothing here is imported by the framework itself."""
