"""Forms that are fast on TPU and GPU."""
