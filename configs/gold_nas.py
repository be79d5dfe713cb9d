"""GOLD-NAS (Bi et al., 2020) on CIFAR-10: a Pareto set from one search.

  python -m jnas.main --config=configs/gold_nas.py:mu=1 \
      --config.data.path=cifar-10-python.tar.gz

:mu=0 (the default) penalises every operator alike, :mu=1 its FLOPs as well.
Expected after configs/retrain.py:gold_nas: 2.99 % test error with 245 M
multiply-adds to 2.53 % with 546 M. pareto.jsonl has the set. :quick prunes
digits. configs/imagenet_search.py:gold_nas is the search on ImageNet.

lambda_0 = 1e-5 times the 777.0 M of the whole network is small beside a cross
entropy of 2.3, and grows to match it in some seven doublings. The search
network's accuracy is that on training images, which train weights and logits
alike. The weights' decay (3e-4) and clipping (5) are DARTS's: appendix B.1
names neither. jnas/algorithms/goldnas.py says where else the paper is silent.
"""

from jnas import config as config_lib

ARGUMENTS = ("mu=0", "mu=1", "quick")


def get_config(argument="mu=0"):
  config = config_lib.base()
  config.algo.name = "goldnas"
  config.space.update(name="s2", cells=14, width=36, shared=False)
  config.arch.update(optimizer="sgd", lr=1.0, decay=0.0, init=0.0)
  config.weights.update(lr=0.01, lr_end=0.01)
  config.gold.mu = 0.0 if argument == "mu=0" else 1.0
  if argument == "quick":
    config.space.update(cells=4, width=8, nodes=2)
    config.gold.update(lambda0=2e-3, flops_min=0.15, t0=2)
    config.train.update(length="30 epochs", batch=32)
    config.data.share = 0.9
    return config
  config.train.update(length="1000 epochs", batch=96)  # flops_min ends it
  config.gold.flops_min = 360.0 if argument == "mu=0" else 240.0
  config.data.update(name="cifar10", crop_pad=4, flip=True, share=1.0)
  config.data.autoaugment = True
  return config
