"""Search algorithms, one paper a file."""
