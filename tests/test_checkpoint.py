import json
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple
import warnings

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax
import pytest

from jnas.runtime import parallel
from jnas.runtime.checkpoint import Checkpoints


class State(NamedTuple):
  weights: dict
  slots: optax.OptState
  step: jax.Array


def state(seed=0):
  rng = np.random.default_rng(seed)
  weights = {
    "w": jnp.asarray(rng.normal(size=(40, 30)), jnp.float32),
    "half": jnp.asarray(rng.normal(size=(5,)), jnp.bfloat16),
    "bytes": jnp.asarray(rng.integers(0, 256, (7,)), jnp.uint8),
    "cell": [jnp.float32([np.nan, -0.0, np.inf, 1e-45]), jnp.zeros((0, 3))],
  }
  optimizer = optax.chain(
    optax.clip_by_global_norm(5.0), optax.adam(1e-3), optax.trace(0.9)
  )
  return State(weights, optimizer.init(weights), jnp.int32(seed))


def abstract(meta=None):
  return jax.eval_shape(state)


def equal(a, b):
  """Returns whether the trees are equal bit for bit."""
  if jax.tree.structure(a) != jax.tree.structure(b):
    return False
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(
    x.dtype == y.dtype
    and x.shape == y.shape
    and np.asarray(x).tobytes() == np.asarray(y).tobytes()
    for x, y in pairs
  )


def test_a_state_holds_arrays_of_numbers_only(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(ValueError, match=r"state\['n'\]: .* got int;"):
      checkpoints.save(1, {"n": 3}, {})
    with pytest.raises(ValueError, match=r"state\[0\]: .* got key<"):
      checkpoints.save(1, [jax.random.key(0)], {})
    assert checkpoints.save(1, {"n": jnp.int32(3)}, {})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A folder with whole checkpoints of the steps 1, 2 and 3."""
  folder = tmp_path_factory.mktemp("saved") / "checkpoints"
  with Checkpoints(folder, keep=3) as checkpoints:
    for step in (1, 2, 3):
      assert checkpoints.save(step, state(step), {"stage": [step, "a"]})
  return folder


@pytest.fixture
def folder(saved, tmp_path):
  return pathlib.Path(shutil.copytree(saved, tmp_path / "checkpoints"))


def test_a_restored_state_equals_the_saved_one_bit_for_bit(folder):
  with Checkpoints(folder) as checkpoints:
    assert checkpoints.latest() == (3, {"stage": [3, "a"]})
    metas = []
    step, restored, meta = checkpoints.restore_latest(
      lambda meta: metas.append(meta) or abstract()
    )
    assert (step, meta, metas) == (3, {"stage": [3, "a"]}, [meta])
    assert equal(restored, state(3)) and not equal(restored, state(2))
    assert equal(checkpoints.restore(1, abstract()), state(1))


def test_nothing_there(tmp_path):
  with Checkpoints(tmp_path / "new") as checkpoints:
    assert checkpoints.latest() is None
    assert checkpoints.restore_latest(abstract) is None
    with pytest.raises(ValueError, match="but there is none"):
      checkpoints.restore(5, abstract())
  with pytest.raises(ValueError, match="at least 1 checkpoint, got 0"):
    Checkpoints(tmp_path, keep=0)
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="expected a folder .*, got a file"):
    Checkpoints(tmp_path / "file")


def test_the_newest_are_kept_and_a_step_is_saved_once(tmp_path):
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in (2, 4, 6, 8):
      checkpoints.save(step, state(step), {})
    assert not checkpoints.save(8, state(0), {})
    checkpoints.wait()
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert names == ["6", "8"]
    assert equal(checkpoints.restore(8, abstract()), state(8))


def largest(folder):
  files = [path for path in folder.rglob("*") if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def delete_meta(folder):
  shutil.rmtree(folder / "meta")


def delete_largest(folder):
  largest(folder).unlink()


def truncate(folder):
  os.truncate(largest(folder), largest(folder).stat().st_size // 2)


def change_a_byte(folder):
  # Orbax restores other numbers from this without a word.
  path = largest(folder)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 16
  path.write_bytes(data)


def empty(folder):
  shutil.rmtree(folder)
  folder.mkdir()


def unsealed(folder):
  (folder / "files.json").unlink()


def damaged_seal(folder):
  os.truncate(folder / "files.json", 30)


def empty_seal(folder):
  (folder / "files.json").write_text("{}")


DAMAGE = {
  delete_meta: "meta.* is missing",
  delete_largest: "is missing",
  truncate: "bytes instead of",
  change_a_byte: "has changed",
  empty: "was not finished",
  unsealed: "was not finished",
  damaged_seal: "files.json is damaged",
  empty_seal: "files.json does not list",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
def test_a_broken_checkpoint_is_skipped_and_saved_again(
  folder, damage, capfd, caplog
):
  damage(folder / "3")
  with Checkpoints(folder, keep=2) as checkpoints:
    assert checkpoints.latest()[0] == 2
    with pytest.raises(ValueError, match=DAMAGE[damage]):
      checkpoints.restore(3, abstract())
    with pytest.warns(UserWarning, match=f"3 skipped: .*{DAMAGE[damage]}"):
      step, restored, _ = checkpoints.restore_latest(abstract)
    assert step == 2 and equal(restored, state(2))
    assert checkpoints.save(3, state(3), {})
    assert equal(checkpoints.restore(3, abstract()), state(3))
  # Orbax would fill screens.
  assert capfd.readouterr().err == "" and not caplog.messages


def test_whatever_file_is_damaged_no_other_numbers_are_read(folder):
  """Each file gone, cut and with a byte changed; of the seal, many bytes."""
  whole = folder / "3"
  files = [path for path in whole.rglob("*") if path.is_file()]
  assert len(files) > 5
  with Checkpoints(folder) as checkpoints:
    for path in files:
      data = path.read_bytes()
      places = range(0, len(data), 97) if path.name == "files.json" else [0]
      for damaged in (
        None,
        data[: len(data) // 2],
        *(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in places),
      ):
        if damaged is None:
          path.unlink()
        else:
          path.write_bytes(damaged)
        if damaged != data:  # as half of nothing
          assert checkpoints.latest()[0] == 2, path
      path.write_bytes(data)
    assert checkpoints.latest()[0] == 3


def test_two_broken_checkpoints_and_the_rest_of_an_unfinished_one(folder):
  empty(folder / "3")
  truncate(folder / "2")
  shutil.copytree(folder / "1", folder / "4.orbax-checkpoint-tmp")
  with Checkpoints(folder) as checkpoints:
    with pytest.warns(UserWarning) as caught:
      step, restored, _ = checkpoints.restore_latest(abstract)
    assert step == 1 and equal(restored, state(1)) and len(caught) == 2
    checkpoints.save(4, state(4), {})
    assert equal(checkpoints.restore(4, abstract()), state(4))
  assert not (folder / "4.orbax-checkpoint-tmp").exists()


def test_a_single_broken_one_is_a_fresh_start_but_several_are_an_error(folder):
  for step in "123":
    truncate(folder / step)
  with Checkpoints(folder) as checkpoints:
    with pytest.raises(ValueError, match="found none .*3: .*bytes instead"):
      checkpoints.restore_latest(abstract)
  assert (folder / "3").exists()
  shutil.rmtree(folder / "1")
  shutil.rmtree(folder / "2")
  with Checkpoints(folder) as checkpoints:
    with pytest.warns(UserWarning, match="3 skipped"):
      assert checkpoints.restore_latest(abstract) is None


def test_another_structure_is_an_error_and_nothing_is_moved(folder):
  def changed(meta):
    other = abstract()
    weights = dict(other.weights, w=jax.ShapeDtypeStruct((40, 31), "float32"))
    weights["half"] = jax.ShapeDtypeStruct((5,), "float32")
    weights["new"] = weights.pop("bytes")
    return other._replace(weights=weights)

  with Checkpoints(folder) as checkpoints:
    with pytest.raises(ValueError) as caught:
      checkpoints.restore_latest(changed)
    for part in (
      "'w'\\]: stored float32[40, 30], expected float32[40, 31]",
      "'half'\\]: stored bfloat16[5], expected float32[5]",
      "'new'\\]: stored nothing, expected uint8[7]",
      "'bytes'\\]: stored uint8[7], expected nothing",
    ):
      assert part.replace("\\", "") in str(caught.value)

    def refuse(meta):
      raise KeyError("another config")

    with pytest.raises(KeyError, match="another config"):
      checkpoints.restore_latest(refuse)
  assert sorted(os.listdir(folder)) == ["1", "2", "3"]


def test_a_state_may_be_donated_as_soon_as_save_returns(tmp_path):
  # On CPU the state's memory is read where it lies: were it not copied, the
  # steps that follow would write into the checkpoint.
  add = jax.jit(
    lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0
  )
  start = {f"w{i}": jnp.full((200, 1000), float(i)) for i in range(8)}
  expected = jax.tree.map(np.array, start)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, start, {})
    tree = start
    for _ in range(20):
      tree = add(tree)
    jax.block_until_ready(tree)
    restored = checkpoints.restore(1, jax.eval_shape(lambda: tree))
    assert equal(restored, expected)


def test_a_state_on_several_devices_restores_onto_them(tmp_path):
  mesh = parallel.mesh()
  sharding = jax.NamedSharding(mesh, PartitionSpec())
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, parallel.replicate(state(1), mesh), {})
    target = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
      abstract(),
    )
    restored = checkpoints.restore(1, target)
    assert equal(restored, state(1))
    assert {x.sharding for x in jax.tree.leaves(restored)} == {sharding}
    # And onto one device, by default.
    alone = checkpoints.restore(1, abstract())
    assert equal(alone, state(1))
    assert alone.step.devices() == {jax.devices()[0]}


def test_a_failed_save_is_reported(tmp_path, monkeypatch):
  from jnas.runtime import checkpoint

  def full(folder):
    raise OSError("no space left on device")

  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state(1), {})
    checkpoints.wait()
    with monkeypatch.context() as patch:
      patch.setattr(checkpoint, "_seal", full)
      checkpoints.save(2, state(2), {})
      with pytest.raises(OSError, match="no space left"):
        checkpoints.wait()
    # What was there is there still: 2 has not replaced it.
    assert checkpoints.latest()[0] == 1


def test_orbax_is_quiet_and_others_are_not(tmp_path, caplog):
  caplog.set_level(logging.INFO, logger="absl")
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state(1), {})
    checkpoints.restore(1, abstract())
  logging.getLogger("absl").info("the loop says")
  assert caplog.messages == ["the loop says"]


LOOP = """
import sys
import jax.numpy as jnp
from jnas.runtime.checkpoint import Checkpoints
with Checkpoints(sys.argv[1], keep=1) as checkpoints:
  found = checkpoints.latest()
  step = found[0] if found else 0
  while True:
    step += 1
    tree = {f"w{i}": jnp.full((300, 100), step * 100.0 + i) for i in range(9)}
    checkpoints.save(step, tree, {"step": step})
    print(step, flush=True)
"""


def test_kill_9_during_a_save_loses_one_save_at_most(tmp_path):
  folder = tmp_path / "checkpoints"
  shape = jax.ShapeDtypeStruct((300, 100), jnp.float32)
  target = {f"w{i}": shape for i in range(9)}
  last = 0
  for delay in (0.0, 0.03, 0.11):
    process = subprocess.Popen(
      [sys.executable, "-c", LOOP, str(folder)],
      stdout=subprocess.PIPE,
      text=True,
    )
    for _ in range(3):
      started = int(process.stdout.readline())
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    started = max([started, *map(int, rest)])
    with Checkpoints(folder, keep=1) as checkpoints:
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step, tree, meta = checkpoints.restore_latest(lambda _: target)
    # A save begins when the one before has ended, so at most the newest is
    # lost; one more may have begun than was printed.
    assert last < started - 1 <= step <= started + 1
    assert meta == {"step": step}
    for i in range(9):
      expected = np.full((300, 100), step * 100.0 + i, np.float32)
      np.testing.assert_array_equal(tree[f"w{i}"], expected)
    last = step


def test_the_seal_lists_every_file(folder):
  seal = json.loads((folder / "3" / "files.json").read_text())
  files = [p for p in (folder / "3").rglob("*") if p.is_file()]
  assert len(seal) == len(files) - 1 and "meta/metadata" in seal
