"""SNAS (Xie et al., 2019) on CIFAR-10: soft draws, one level.

  python -m jnas.main --config=configs/snas.py \
      --config.data.path=cifar-10-python.tar.gz

Network, length and temperatures are those of the published search (150 epochs,
1 to 0.03). Without its drop path and resource constraint; with a moderate one
the paper reports 2.85 +- 0.02 % test error after retraining. All training
images train weights and logits alike. :quick searches digits.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "quick")


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.algo.update(name="snas", tau=1.0, tau_end=0.03)
  if argument == "quick":
    config.space.update(name="s3", cells=3, width=8, nodes=2)
    config.train.update(length="8 epochs", batch=32)
    config.arch.lr = 0.01  # a few hundred steps must do
    return config
  config.train.update(length="150 epochs", batch=64)
  config.data.update(name="cifar10", crop_pad=4, flip=True, share=1.0)
  return config
