"""EnTranNAS (Yang et al., 2021): its tables 3, 4 and 6.

  python -m jnas.main --config=configs/ablations/entrannas.py:table3 \
      --config.data.path=cifar-10-python.tar.gz

Tables 1 and 2 are :engines and :consistency of configs/compare.py. :table3 adds
engine and transit cells, sharing and the bottleneck to DARTS, each at the
largest batch of the paper: 0.73, 0.22, 0.09 and 0.06 days on a GTX 1080 Ti.
:table4 (data.path=ILSVRC2012) is what lambda does to the size, on 100 classes
of ImageNet; in small it is :quick_sparsity of configs/compare.py. :table6
trains what the standard and the extended space and learned topology give: 2.53,
2.22 and 2.48 % test error; users of the DARTS code report a day on a V100 for
one of the nine trainings. :table3_quick and :table6_quick are on digits.
"""

from jnas import config as config_lib

OURS = "entrannas:7ops|quick"
THREE = [
  "darts:first|quick space.name=s1_7 +train.batch=64",
  f"{OURS} space.sharing=false space.bottleneck=1 +train.batch=128",
  f"{OURS} space.bottleneck=1 +train.batch=256",
  f"{OURS} -space.bottleneck=2",
]
SIX = [OURS, "entrannas:12ops|", "entrannas:dst|quick_dst"]
FOUR = [f"imagenet_search:dst| algo.sparsity={x}" for x in (0.2, 0.1, 0.05)]
TABLES = {"table3": (1, THREE), "table4": (1, FOUR), "table6": (3, SIX)}
ARGUMENTS = (*TABLES, "table3_quick", "table6_quick")


def get_config(argument="table3"):
  recipe = "entrannas" if argument.startswith("table6") else ""
  return config_lib.comparison(TABLES, argument, recipe)
