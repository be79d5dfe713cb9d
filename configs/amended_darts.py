"""Amended DARTS (Bi et al., 2020): the search of section 3.1 on CIFAR-10.

  python -m jnas.main --config=configs/amended_darts.py \
      --config.data.path=cifar-10-python.tar.gz

The default is :s1. Expected: no skip-connect collapse; after retraining
2.71 +- 0.09 % test error. :s2_fixed and :s2_edges search 20 independent cells,
skip or sep 3x3, on fixed or searched edges: 2.60 and 2.63 %; :s3 and :s3_edges
2.69 and 2.63 %. :quick, :quick_fixed, :quick_edges search digits in minutes.
"""

from jnas import config as config_lib

ARGUMENTS = ("s1", "s2_fixed", "s2_edges", "s3", "s3_edges", "quick")
ARGUMENTS += ("quick_fixed", "quick_edges")
EDGES = {"": "all", "fixed": "fixed", "edges": "searched"}


def get_config(argument="s1"):
  config = config_lib.base()
  config.algo.update(name="amended", hypergrad="amended")
  config.arch.init = 0.0  # "all operators are assigned equal weights"
  name, _, edges = argument.partition("_")
  config.space.edges = EDGES[edges]
  if name == "quick":
    config.space.update(name="s3", cells=3, width=8, nodes=2)
    config.space.shared = edges != "fixed"
    config.train.update(length="8 epochs", batch=32)
    config.data.cutout = 2
    config.arch.lr = 0.01
    return config
  config.space.name = name
  if name == "s2":
    config.space.update(cells=20, width=36, shared=False)
  epochs = 200 if edges == "edges" else 100  # of that, half choose edges
  config.train.update(length=f"{epochs} epochs", batch=96)
  # As in retraining, section 2.4: the paper's hyper-parameter consistency.
  config.data.update(name="cifar10", crop_pad=4, flip=True, cutout=16)
  config.train.update(drop_path=0.2, auxiliary=0.4)
  return config
