"""P-DARTS (Chen et al., 2019): the diagnostic experiments of section 4.4.

  python -m jnas.main --config=configs/ablations/pdarts.py:depth \
      --config.data.path=cifar-10-python.tar.gz

:depth (4.4.1) trains what is found after one, two and three stages, and by
DARTS; :space (4.4.2) compares with operators that are dropped at random, of
three seeds; expected 2.58 and 3.43 % test error. :dropout (4.4.3) has dropout
after skip connections or none, for M = 2, 3 and 4 of them: 2.69, 2.84 and
2.97 %, without it 2.93, 3.28 and 3.51 %. A search takes 0.3 days on a P100, a
training of 600 epochs one or two: :depth 6 days, :space and :dropout 11.
:depth_quick and the others search and train on digits.
"""

from jnas import config as config_lib

OURS = "pdarts:cifar10|quick"
DEPTH = [
  f"{OURS} +pdarts.cells=(5,) +pdarts.operators=(8,) +train.length=25epochs "
  "-pdarts.cells=(3,) -pdarts.operators=(3,) -train.length=3epochs "
  "pdarts.skip_rates=(0.0,)",
  f"{OURS} +pdarts.cells=(5,11) +pdarts.operators=(8,5) +train.length=50epochs "
  "-pdarts.cells=(3,4) -pdarts.operators=(3,2) -train.length=6epochs "
  "pdarts.skip_rates=(0.0,0.4)",
  OURS,
  "darts:second|quick_second",
]
RATES = ("(0.0,0.0,0.0)", "(0.0,0.3,0.6)")
DROPOUT = [f"{OURS} pdarts.skip_rates={rates} pdarts.skips={m}"
           for rates in RATES for m in (2, 3, 4)]
TABLES = {"depth": (1, DEPTH), "dropout": (1, DROPOUT)}
TABLES["space"] = 3, [OURS, f"{OURS} pdarts.random_drop=true"]
ARGUMENTS = (*TABLES, *(f"{name}_quick" for name in TABLES))


def get_config(argument="depth"):
  return config_lib.comparison(TABLES, argument, "pdarts")
