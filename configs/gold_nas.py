"""GOLD-NAS (Bi et al., 2020) on CIFAR-10: a Pareto set from one search.

  python -m jnas.main --config=configs/gold_nas.py:mu=1 \
      --config.data.path=cifar-10-python.tar.gz

:mu=0 (the default) penalises every operator alike, :mu=1 its FLOPs as well.
Expected after retraining: 2.99 % test error with 245 M multiply-adds to 2.53 %
with 546 M. pareto.jsonl has the set. :quick prunes digits; :imagenet100 wants
100 classes of ImageNet, which this package does not read.

FLOPs are millions of multiply-adds: lambda_0 = 1e-5 times the 1,200 M of the
whole network is small beside a cross entropy of 2.3, and grows to match it in
some seven doublings. mu stands within lambda's bracket (jnas/algorithms/
goldnas.py says why). All training images train weights and logits alike, so
the accuracy of the search network is that on training images.
"""

from jnas import config as config_lib

ARGUMENTS = ("mu=0", "mu=1", "imagenet100", "quick")


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
  config.gold.flops_min = {"mu=0": 360.0, "mu=1": 240.0}.get(argument, 500.0)
  config.data.update(name="cifar10", crop_pad=4, flip=True, share=1.0)
  config.data.autoaugment = argument != "imagenet100"
  return config
