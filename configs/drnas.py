"""DrNAS (Chen et al., 2021) on CIFAR-10: weights drawn from a Dirichlet.

  python -m jnas.main --config=configs/drnas.py \
      --config.data.path=cifar-10-python.tar.gz

Network and schedules are those that the published search begins with: 20 cells
of 36 channels, a sixth of which goes through 7 operators, and 10 epochs in
which alpha rests. It goes on with four operators and a fourth of the channels
after 25 of its 50 epochs, which is left out, and reports 2.46 % test error
after retraining. The penalty takes the place of the decay of alpha. :quick
searches digits.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "quick")


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.algo.name = "drnas"
  config.arch.decay = 0.0
  if argument == "quick":
    config.space.update(name="s3", cells=3, width=8, nodes=2)
    config.train.update(length="8 epochs", batch=32)
    config.arch.lr = 0.01  # a few hundred steps must do
    return config
  config.space.update(name="s1_7", cells=20, width=36, partial=6)
  config.train.update(length="50 epochs", batch=64)
  config.algo.warmup = "10 epochs"
  config.weights.update(lr=0.1, lr_end=0.0)
  config.arch.lr = 6e-4
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  return config
