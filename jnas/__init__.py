"""Differentiable neural architecture search in JAX and Flax.

Five nouns of the field, and where to find them:

| noun              | module                                             |
| ----------------- | -------------------------------------------------- |
| search space      | `jnas.spaces`: what is searched over, of operators |
|                   | that `jnas.ops` defines                            |
| relaxation        | `jnas.relax`: logits to edge weights               |
| hypergradient     | `jnas.hypergrad`: d validation loss / d arch       |
| search algorithm  | `jnas.algorithms`: one paper a file                |
| genotype          | `jnas.genotype`: the cell that was found, as text  |

Around them, from the bottom to the top:

  config      fields and their meaning, config files with overrides, checks
  data        arrays in, batches out
  runtime     machinery that has no idea of architecture search
  training    how a model is trained, whichever
  exchange    trained networks in files of other programs, and out of them
  report      pictures and pages, from the files that runs leave
  runs        the programs: search, retrain, compare, report
  main        command line to run
  api         the door for Python, of which the names below are
  cli         the command jnas: main, the report, and what there is to choose

From Python: `jnas.search`, `jnas.train` and `jnas.load` give a search or a
network; `jnas.genotype(text)`, `jnas.count` and `jnas.draw` are about cells.

The mathematics needs none of the machinery to be read or tested.
`tests/test_layers.py` holds the table of what may import what.
"""

import importlib

__version__ = "0.1.0"

_DOOR = ("search", "train", "load", "count", "draw")


def __getattr__(name: str) -> object:
  # Late: whoever asks for the version, or for a genotype, waits for no JAX.
  if name == "genotype":
    return importlib.import_module("jnas.genotype")
  if name in _DOOR:
    return getattr(importlib.import_module("jnas.api"), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *_DOOR, "genotype"})
