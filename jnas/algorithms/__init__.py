"""Search algorithms: one paper a file, whole.

A paper's file has its relaxation, its options, its stages or rule of pruning,
its schedules, and as `METHOD` what programs may ask of it. A new one is such a
file and a line in `registry`, or no line if it is named by its import path.

  base       what an algorithm is, and what several of them share
  method     what programs may ask of a paper
  stages     what is searched next, and when that is decided
  edges      edges first, then operators: two stages of any DARTS
  registry   the papers by name
"""
