"""The supernet against DARTS in plain PyTorch, on the same weights."""

import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip(
  "torch", reason="parity with PyTorch needs it: pip install 'jnas[bench]'"
)

from benchmarks import copy_weights, torch_darts  # noqa: E402
from jnas.algorithms.base import softmax_relaxation  # noqa: E402
from jnas.algorithms.darts import darts  # noqa: E402
from jnas.spaces import cnn, spec  # noqa: E402
from jnas.training import losses, optim, state, steps  # noqa: E402

CLASSES = 5
# Name, operators, cells, nodes, image. Four cells end in a normal one behind a
# reduction; the other image is not square, and its last features are odd.
NETS = {
  "s1": (spec.S1, 3, 3, (8, 8)),
  "s3": (spec.S3, 4, 4, (8, 12)),
}
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}


class Pair(NamedTuple):
  """One supernet in both libraries, with the same numbers in it."""

  spec: spec.Spec
  network: cnn.Network
  params: Any
  stats: Any
  arch: dict[str, jax.Array]
  model: torch_darts.Supernet


def make(name: str, dtype: Any, seed: int = 0) -> Pair:
  ops, cells, nodes, size = NETS[name]
  shape = dict(cells=cells, width=4, classes=CLASSES, nodes=nodes)
  described = spec.supernet(ops, **shape)
  network = cnn.Network(described)
  key = jax.random.key(seed)
  drawn = network.init(key, jnp.zeros((1, *size, 3)), train=False)
  draw = np.random.default_rng(seed)

  def some(leaf, scale=0.0):
    # Scales are one and shifts zero at first, which would hide a mistake.
    return jnp.asarray(leaf + scale * draw.normal(size=leaf.shape), dtype)

  params = jax.tree.map(some, drawn["params"])
  params["stem_norm"] = {
    k: some(v, 0.3) for k, v in params["stem_norm"].items()
  }
  stats = jax.tree.map(some, drawn["batch_stats"])
  arch = {k: some(np.zeros(c.shape), 1.0) for k, c in described.searched}
  model = torch_darts.build(ops, **shape).to(_torch(dtype))
  copy_weights.copy(model, described, params, arch)
  return Pair(described, network, params, stats, arch, model)


def batch(name: str, dtype: Any, seed: int) -> losses.Batch:
  draw = np.random.default_rng(seed)
  x = draw.normal(size=(4, *NETS[name][3], 3)).astype(dtype)
  y = draw.integers(CLASSES, size=4).astype(np.int32)
  return losses.Batch(
    jnp.asarray(x), jnp.asarray(y), jax.random.split(jax.random.key(seed), 4)
  )


def placed(
  search: torch_darts.Search, examples: losses.Batch
) -> tuple[torch.Tensor, torch.Tensor]:
  x = np.asarray(examples.x).transpose(0, 3, 1, 2)
  return torch_darts.place(search, x.copy(), np.array(examples.y))


def objective(pair: Pair, examples: losses.Batch) -> Any:
  """Logits, loss, and its gradients, as `jnas` has them."""
  relax = softmax_relaxation(pair.spec)
  network = losses.classification(pair.network)

  @jax.jit
  def evaluate(params, stats, arch, examples):
    def loss(params, arch):
      return network(params, stats, relax(arch, None), examples, None)[0]

    logits, _ = pair.network.apply(
      {"params": params, "batch_stats": stats},
      examples.x,
      relax(arch, None),
      train=True,
      mutable=["batch_stats"],
    )[0]
    return logits, *jax.value_and_grad(loss, (0, 1))(params, arch)

  return evaluate(pair.params, pair.stats, pair.arch, examples)


def largest(got: Any, expected: Any) -> float:
  """The largest difference, as a share of the largest entry expected."""
  got, expected = np.asarray(got), np.asarray(expected)
  return float(np.abs(got - expected).max() / np.abs(expected).max())


def compare(name: str, dtype: Any) -> dict[str, float]:
  """For each quantity, how far the two libraries are apart."""
  pair = make(name, dtype)
  examples = batch(name, dtype, 1)
  logits, loss, (weights, alpha) = objective(pair, examples)
  search = torch_darts.prepare(pair.model)
  x, y = placed(search, examples)
  scores = pair.model(x)
  value = torch_darts.loss(search, (x, y))
  value.backward()
  # The gradients of jnas take the places of the weights in another model.
  expected = copy.deepcopy(pair.model)
  copy_weights.copy(expected, pair.spec, weights, alpha)
  errors = {
    "logits": largest(scores.detach(), logits),
    "loss": largest(value.detach(), loss),
  }
  for kind, parameter in expected.alphas.items():
    errors[f"alpha of {kind}"] = largest(
      pair.model.alphas[kind].grad, parameter.detach()
    )
  got = torch.cat([p.grad.flatten() for p in pair.model.weights()])
  wanted = torch.cat([p.detach().flatten() for p in expected.weights()])
  errors["weights"] = largest(got, wanted)
  errors["norm of weights"] = largest(got.norm(), wanted.norm())
  assert got.norm() > 1e-2  # there is something to compare
  return errors


def _torch(dtype: Any) -> torch.dtype:
  return torch.float64 if dtype is np.float64 else torch.float32


def check(name: str, dtype: Any) -> None:
  errors = compare(name, dtype)
  limit = TOLERANCE[dtype]
  assert {k: v for k, v in errors.items() if not v <= limit} == {}


@pytest.mark.parametrize("name", NETS)
def test_float32(name: str) -> None:
  check(name, np.float32)


@pytest.mark.parametrize("name", NETS)
def test_float64(name: str, x64: None) -> None:
  check(name, np.float64)


def test_two_search_steps(x64: None) -> None:
  """Clipping, decay, momentum, Adam and the order of the two updates."""
  dtype, limit = np.float64, TOLERANCE[np.float64]
  pair = make("s3", dtype)
  search = torch_darts.prepare(pair.model, clip=0.5)
  weights = optim.sgd(lambda _: 0.025, momentum=0.9, decay=3e-4, clip=0.5)
  alpha = optim.adam(3e-4, b1=0.5, b2=0.999, decay=1e-3)
  step = jax.jit(
    steps.search_step(
      darts(pair.spec),
      losses.classification(pair.network),
      weights,
      alpha,
      lambda split, stream, number: split,
      seed=0,
      virtual=lambda before: None,
    )
  )
  now = state.State(
    step=jnp.zeros((), jnp.int32),
    weights=pair.params,
    stats=pair.stats,
    arch=pair.arch,
    weights_opt=weights.init(pair.params),
    arch_opt=alpha.init(pair.arch),
    sums=state.zero_sums(),
  )
  for number in range(2):
    train = batch("s3", dtype, 2 * number)
    valid = batch("s3", dtype, 2 * number + 1)
    now, metrics = step(now, train, valid)
    fitted, held_out = torch_darts.search_step(
      search, placed(search, train), placed(search, valid)
    )
    assert largest(held_out, metrics["valid_loss"]) < limit
    assert largest(fitted, metrics["train_loss"]) < limit
  expected = copy.deepcopy(pair.model)
  copy_weights.copy(expected, pair.spec, now.weights, now.arch)
  moved = copy.deepcopy(pair.model)
  copy_weights.copy(moved, pair.spec, pair.params, pair.arch)
  for name, value in expected.named_parameters():
    start = moved.get_parameter(name).detach()
    got = pair.model.get_parameter(name).detach()
    # Clipping in PyTorch divides by the norm plus 1e-6: a share of 1e-6.
    assert largest(got - start, value.detach() - start) < 1e-5, name


def test_places_without_a_match_are_named() -> None:
  pair = make("s3", np.float32)
  other = torch_darts.build(
    spec.S3, cells=4, width=8, classes=CLASSES, nodes=4
  )
  with pytest.raises(ValueError, match="classifier.weight"):
    copy_weights.copy(other, pair.spec, pair.params)
