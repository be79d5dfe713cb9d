"""A short run of the fuzzer, always with the same examples."""

import fuzz
import pytest


@pytest.mark.parametrize(
  "name, examples", [("data", 250), ("configs", 250), ("genotypes", 250)]
)
def test_fuzz(name, examples):
  counts = fuzz.Counts()
  fuzz.run(name, examples, counts, derandomize=True)
  assert counts["taken"] and counts["refused"]  # both ways are walked
