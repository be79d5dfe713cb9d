"""What is asked of genotypes."""

import subprocess
import sys

from made_up_genotypes import NAS_BENCH_201, STACK

from jnas import genotype as genotype_lib
from jnas.genotype import StackGenotype


def test_chosen_numbers_nodes_as_the_supernet_does():
  assert genotype_lib.chosen(NAS_BENCH_201) == {
    "cell": (
      ("avg_pool_3x3", 0, 1),
      ("nor_conv_1x1", 0, 2),
      ("skip_connect", 1, 2),
      ("nor_conv_1x1", 0, 3),
      ("skip_connect", 1, 3),
      ("skip_connect", 2, 3),
    )
  }
  assert genotype_lib.chosen(STACK) == {
    "cell0": (("sep_conv_3x3", 0, 2), ("skip_connect", 1, 2)),
    "cell1": (("none", 1, 2), ("none", 1, 2)),
  }
  found = genotype_lib.chosen(genotype_lib.ZOO["DARTS_V2"])
  assert list(found) == ["normal", "reduce"]
  assert found["normal"][-1] == ("dil_conv_3x3", 2, 5)


def test_skip_share_is_that_of_the_normal_cells():
  assert genotype_lib.skip_share(NAS_BENCH_201) == 0.5
  assert genotype_lib.skip_share(genotype_lib.ZOO["GDAS_F1"]) == 5 / 8
  skip = [("skip_connect", 0), ("skip_connect", 1)]
  none = [("none", 0), ("none", 1)]
  # Layers 2 and 4 of six reduce.
  stack = StackGenotype([none, skip, skip, none, skip, none], [2])
  assert genotype_lib.skip_share(stack) == 0.25
  # A stack of one or two has no normal cell, so all count.
  assert genotype_lib.skip_share(StackGenotype([skip, none], [2])) == 0.5


def test_importing_needs_no_jax():
  code = "import sys, jnas.genotype; print('jax' in sys.modules)"
  out = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == "False"
