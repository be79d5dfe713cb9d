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
from jnas.algorithms.base import softmax_mixture  # noqa: E402
from jnas.algorithms.darts import darts  # noqa: E402
from jnas.spaces import cnn, spec  # noqa: E402
from jnas.training import losses, optim, state, steps  # noqa: E402

CLASSES = 5
# Operators, cells, nodes, image. Four cells end in a normal one behind a
# reduction; the images that are not square end in features of an odd size.
NETS = {
  "s1": (spec.S1, 3, 3, (8, 12)),
  "s3": (spec.S3, 4, 3, (8, 8)),
  "tiny": (spec.S3, 3, 2, (12, 8)),
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


def make(name: str, dtype: Any) -> Pair:
  ops, cells, nodes, size = NETS[name]
  shape = dict(cells=cells, width=4, classes=CLASSES, nodes=nodes)
  described = spec.supernet(ops, **shape)
  network = cnn.Network(described)
  shapes = jax.eval_shape(
    lambda key: network.init(key, jnp.zeros((1, *size, 3)), train=False),
    jax.random.key(0),
  )
  draw = np.random.default_rng(0)

  def some(leaf):
    # No parameter is one or zero, which would hide a mistake.
    return jnp.asarray(0.3 * draw.normal(size=leaf.shape), dtype)

  params = jax.tree.map(some, shapes["params"])
  stats = jax.tree.map(
    lambda leaf: jnp.ones(leaf.shape, dtype), shapes["batch_stats"]
  )
  arch = {
    k: jnp.asarray(draw.normal(size=cell.shape), dtype)
    for k, cell in described.searched
  }
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


def evaluate(pair: Pair, examples: losses.Batch) -> Any:
  """Logits, loss, and its gradients, as `jnas` has them."""
  mixture = softmax_mixture(pair.spec)

  def loss(params, arch, stats, examples):
    (logits, _), _ = pair.network.apply(
      {"params": params, "batch_stats": stats},
      examples.x,
      mixture(arch),
      train=True,
      mutable=["batch_stats"],
    )
    return losses.cross_entropy(logits, examples.y).mean(), logits

  both = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
  (value, logits), gradients = both(
    pair.params, pair.arch, pair.stats, examples
  )
  return logits, value, gradients


def apart(got: Any, expected: Any) -> float:
  """The largest difference; of large entries, as a share of the largest."""
  got, expected = np.asarray(got), np.asarray(expected)
  return float(np.abs(got - expected).max() / max(1, np.abs(expected).max()))


def compare(name: str, dtype: Any) -> tuple[dict[str, float], ...]:
  """For each quantity, how far the two are apart, and how large it is."""
  pair = make(name, dtype)
  examples = batch(name, dtype, 1)
  logits, loss, (weights, alpha) = evaluate(pair, examples)
  search = torch_darts.prepare(pair.model)
  x, y = placed(search, examples)
  scores = pair.model(x)
  value = torch_darts.loss(search, (x, y))
  value.backward()
  # The gradients of jnas take the places of the weights in another model.
  expected = copy.deepcopy(pair.model)
  copy_weights.copy(expected, pair.spec, weights, alpha)
  got = torch.cat([p.grad.flatten() for p in pair.model.weights()])
  wanted = torch.cat([p.detach().flatten() for p in expected.weights()])
  pairs = {
    "logits": (scores.detach(), logits),
    "loss": (value.detach(), loss),
    "weights": (got, wanted),
    "norm of weights": (got.norm(), wanted.norm()),
  }
  for kind, parameter in expected.alphas.items():
    both = (pair.model.alphas[kind].grad, parameter.detach())
    pairs[f"alpha of {kind}"] = both
  return (
    {key: apart(*both) for key, both in pairs.items()},
    {k: float(np.abs(np.asarray(b)).max()) for k, (_, b) in pairs.items()},
  )


def _torch(dtype: Any) -> torch.dtype:
  return torch.float64 if dtype is np.float64 else torch.float32


def check(name: str, dtype: Any) -> None:
  errors, sizes = compare(name, dtype)
  limit = TOLERANCE[dtype]
  assert {k: v for k, v in errors.items() if not v <= limit} == {}
  # Far below what is compared.
  assert min(sizes.values()) > 1000 * limit


def test_float32() -> None:
  check("s1", np.float32)


@pytest.mark.parametrize("name", ["s1", "s3"])
def test_float64(name: str, x64: None) -> None:
  check(name, np.float64)


def test_two_search_steps(x64: None) -> None:
  """Clipping, decay, momentum, Adam and the order of the two updates."""
  dtype = np.float64
  pair = make("tiny", dtype)
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
    totals=state.zero_totals(),
  )
  for number in range(2):
    train = batch("tiny", dtype, 2 * number)
    valid = batch("tiny", dtype, 2 * number + 1)
    now, metrics = step(now, train, valid)
    fitted, held_out = torch_darts.search_step(
      search, placed(search, train), placed(search, valid)
    )
    assert apart(held_out, metrics["valid_loss"]) < 1e-11
    assert apart(fitted, metrics["train_loss"]) < 1e-11
  expected = copy.deepcopy(pair.model)
  copy_weights.copy(expected, pair.spec, now.weights, now.arch)
  before = copy.deepcopy(pair.model)
  copy_weights.copy(before, pair.spec, pair.params, pair.arch)
  for name, value in expected.named_parameters():
    start = before.get_parameter(name).detach()
    step = (value.detach() - start).abs().max()
    wrong = (pair.model.get_parameter(name).detach() - value.detach()).abs()
    assert wrong.max() < 1e-8 * step, name


def test_places_without_a_match_are_named() -> None:
  pair = make("tiny", np.float32)
  other = torch_darts.build(
    spec.S3, cells=3, width=8, classes=CLASSES, nodes=2
  )
  with pytest.raises(ValueError, match="classifier.weight"):
    copy_weights.copy(other, pair.spec, pair.params)
