"""Forms that are fast on CPU, and all that only exists for it."""
