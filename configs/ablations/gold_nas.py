"""GOLD-NAS (Bi et al., 2020), appendix A.2: one level in the space of DARTS.

  python -m jnas.main --config=configs/ablations/gold_nas.py \
      --config.data.path=cifar-10-python.tar.gz

:one_level (the default) has weights and logits on the same images, without and
with AutoAugment, beside both orders of DARTS. Expected after retraining: 3.54
and 2.80 +- 0.06 % test error. On a V100 a search takes half a day or less, a
training of 600 epochs 0.3 to 1.2 days: 12 days for three seeds of all four.
:one_level_quick searches and trains on digits, whose augmentation is a crop.
"""

from jnas import config as config_lib

DIGITS = "-algo.one_level=true -data.share=1.0"
ROWS = [
  f"darts:one_level|quick +data.autoaugment=false {DIGITS}",
  f"darts:one_level|quick {DIGITS} -data.crop_pad=1",
  "darts:first|quick",
  "darts:second|quick_second",
]
TABLES = {"one_level": (3, ROWS)}
ARGUMENTS = ("one_level", "one_level_quick")


def get_config(argument="one_level"):
  return config_lib.comparison(TABLES, argument, "cifar10")
