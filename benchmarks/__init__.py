"""What is fast and what is not, measured by programs that anyone can run.

Nothing in `jnas` imports this package. `torch_darts` is what the measurements
are compared with: the supernet of DARTS in plain PyTorch, an optional extra.
With the weights that `copy_weights` copies into it, it is also an oracle for
the supernet of `jnas`.
"""
