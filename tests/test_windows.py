"""Windows of a text: lengths as published, no recompilation, all is read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.data import windows

KEY = jax.random.key(0)


def test_columns_are_told_to_be_too_few():
  with pytest.raises(ValueError, match="at least 20 tokens for 10 columns"):
    windows.columns(np.arange(19), 10)


@pytest.mark.parametrize("deviation", [0.0, 5.0])
def test_lengths(deviation):
  drawn = windows.Windows(10_000_000, 35, deviation=deviation)
  lengths = np.asarray(jax.jit(drawn.lengths)(KEY))
  assert lengths.size > 200_000
  if deviation:
    # floor lowers the mean by a half; 5 to 55 cuts little.
    assert lengths.min() == 5 and lengths.max() <= 55 == drawn.longest
    assert abs(lengths.mean() - (0.95 * 35 + 0.05 * 17.5 - 0.5)) < 0.05
    assert abs(np.median(lengths) - 34) <= 1
    spread = lengths[lengths > 20].std()
    assert abs(spread - 5) < 0.1
  else:
    assert set(lengths.tolist()) == {35, 17} and drawn.longest == 35
    assert abs((lengths == 17).mean() - 0.05) < 0.002


def test_windows_follow_each_other_and_read_all():
  drawn = windows.Windows(1000, 20, deviation=5)
  at = jax.jit(lambda step: drawn.at(KEY, step))
  found = [jax.device_get(at(step)) for step in range(2 * drawn.per_epoch)]
  for before, window in zip(found, found[1:], strict=False):
    assert window.length <= drawn.longest
    assert window.start + window.length <= 999
    if not window.first:
      assert window.start == before.start + before.length
  for begin in (found[0], found[drawn.per_epoch]):
    assert begin.first and begin.start == 0
  assert sum(bool(window.first) for window in found) <= 4
  read = {
    row for w in found for row in range(w.start, w.start + w.length)
  }
  assert len(read) > 950
  lengths = [[w.length for w in found[: drawn.per_epoch]]]
  lengths.append([w.length for w in found[drawn.per_epoch :]])
  assert lengths[0] != lengths[1]


def test_a_thousand_random_lengths_are_one_program():
  drawn = windows.Windows(5000, 35, deviation=5)
  text = jnp.asarray(windows.padded(np.arange(5000)[:, None], drawn.longest))
  traces = []

  @jax.jit
  def step(i):
    traces.append(i)
    window = drawn.at(KEY, i)
    x, y = windows.read(text, window.start, drawn.longest)
    return x[0, 0], y[0, 0], x.shape[0], window

  lengths = set()
  for i in range(1000):
    x, y, size, window = jax.device_get(step(i))
    assert (x, y, size) == (window.start, window.start + 1, 55)
    lengths.add(int(window.length))
  assert len(traces) == 1 and len(lengths) > 20


def test_evaluation_reads_each_row_once():
  for rows, length in ((8, 3), (7, 3), (2, 35), (71, 35)):
    found = windows.evaluation(rows, length)
    read = [r for start, size in found for r in range(start, start + size)]
    assert read == list(range(rows - 1))
