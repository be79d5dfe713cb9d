"""Machinery that has no idea of architecture search.

keys: randomness as a function of (seed, name, step).  parallel: one code path
for one device and for many.  checkpoint: nothing is lost.  metrics: the
declared names.  writer: the files of a run.  progress: what a person sees
while it runs.  machine: what it ran on.  signals: stopping cleanly.
"""
