"""Amended DARTS (Bi et al., 2020): its tables 1, 5 and 6, and the sweep of eta.

  python -m jnas.main --config=configs/ablations/amended_darts.py:eta \
      --config.data.path=cifar-10-python.tar.gz

:table1 is 200 epochs of all, and what is lost without the amended term or the
consistency of hyper-parameters; :table5 the space S3; :table6 other seeds and
edges; :eta 500 epochs without that consistency, as figure 5 of the paper has
it. On a V100 the paper's 100 epochs take 1.7 days in S1, 3.1 with searched
edges in S2, 0.8 in S3, and a training of 600 epochs one to one and a half. So
:table1 is 20 days of it or so, :table5 50, :table6 65, :eta 50. DARTS with
early termination (table 5) is not here. :table1_quick ... on digits.
"""

from jnas import config as config_lib

OURS, DARTS = "amended_darts:s1|quick", "darts:first|quick"
LONG = "+train.length=200epochs"
APART = "data.cutout=0 +train.drop_path=0.0 +train.auxiliary=0.0"
S3 = "space.name=s3"
DROPS = [f"{DARTS} {S3} train.drop_path={p}" for p in ("0.2", "0.4", "0.6")]
FIVE = [f"random_search:cifar10|quick {S3}", f"{DARTS} {S3}", *DROPS]
SIX = [OURS, f"{OURS} space.edges=fixed", "amended_darts:s2_edges|quick_edges",
       "amended_darts:s2_fixed|quick_fixed"]
OURS3 = ["amended_darts:s3|", "amended_darts:s3_edges|"]
ONE = [f"{DARTS} {LONG}", f"darts:second|quick_second {LONG}",
       "pdarts:cifar10|quick +train.length=300epochs +pdarts.skips=8",
       f"pcdarts:cifar10|quick {LONG}", f"{OURS} {LONG}"]
ONE += [f"{ONE[-1]} algo.hypergrad=first_order", f"{ONE[-1]} {APART}"]
ETA = [f"{OURS} algo.eta={eta} {APART} +train.length=500epochs"
       for eta in ("0.0", "0.001", "0.01", "0.1", "1.0")]
TABLES = {"table1": (1, ["random_search:cifar10|quick", *ONE]), "eta": (1, ETA)}
TABLES |= {"table5": (3, FIVE + OURS3), "table6": (3, SIX + OURS3)}
ARGUMENTS = (*TABLES, *(f"{name}_quick" for name in TABLES))


def get_config(argument="table1"):
  return config_lib.comparison(TABLES, argument, "amended")
