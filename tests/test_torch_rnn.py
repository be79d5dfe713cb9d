"""The recurrent language model against plain PyTorch, on the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip(
  "torch", reason="parity with PyTorch needs it: pip install 'jnas[bench]'"
)

from benchmarks import torch_rnn  # noqa: E402
from jnas import genotype  # noqa: E402
from jnas.spaces import rnn  # noqa: E402

T, B, H, V = 5, 4, 6, 9


def tensor(array):
  return torch.from_numpy(np.array(array))


def copied(params, spec, pairs=None):
  """The model in PyTorch, with the parameters of the other."""
  cell = spec.cell
  model = torch_rnn.LanguageModel(V, H, cell.nodes - 1, pairs, cell.concat)
  model = model.double()
  w0 = np.concatenate([params["input"], params["cell"]["hidden"]])
  with torch.no_grad():
    model.encoder.weight.copy_(tensor(params["embedding"]))
    model.decoder.bias.copy_(tensor(params["bias"]))
    model.w0.copy_(tensor(w0))
    for own, w in zip(model.ws, params["cell"]["nodes"], strict=True):
      own.copy_(tensor(w))
  return model


@pytest.mark.parametrize("kind", ["search", "DARTS_V1", "GDAS"])
def test_values_and_gradients_are_those_of_pytorch(kind, x64):
  draw = np.random.default_rng(0)
  pairs = weights = None
  if kind == "search":
    spec = rnn.supernet(3, width=H, vocabulary=V)
    weights = jax.nn.softmax(jnp.asarray(draw.normal(size=spec.cell.shape)))
  else:
    found = genotype.RECURRENT_ZOO[kind]
    spec, pairs = rnn.derived(found, width=H, vocabulary=V), found.recurrent
  model = rnn.LanguageModel(spec)
  tokens = draw.integers(V, size=(T, B))
  hidden = 0.5 * draw.normal(size=(B, H))
  masks = rnn.Masks(
    *(
      draw.integers(0, 3, size=shape) / 1.5
      for shape in ((V, 1), *[(B, H)] * 4)
    )
  )
  probe = draw.normal(size=(T, B, V))
  edges = None if weights is None else {rnn.NAME: weights}
  shapes = jax.eval_shape(
    lambda key: model.init(key, tokens, hidden, edges, train=True),
    jax.random.key(0),
  )
  params = jax.tree.map(
    lambda leaf: jnp.asarray(0.5 * draw.normal(size=leaf.shape)),
    shapes["params"],
  )
  stats = {
    name: jnp.full(leaf.shape, float(name == "var"))
    for name, leaf in shapes.get("batch_stats", {}).items()
  }

  def loss(params, weights, hidden):
    edges = None if weights is None else {rnn.NAME: weights}
    out, new = model.apply(
      {"params": params, "batch_stats": stats},
      jnp.asarray(tokens), hidden, edges, masks, train=True,
      mutable=["batch_stats"],
    )
    value = (jax.nn.log_softmax(out.logits) * probe).sum()
    # Also what is regularised, and what is carried on.
    value += jnp.square(out.dropped).sum() + (out.states * out.states).sum()
    return value + jnp.square(out.hidden).sum(), new

  every = (0, 2) if weights is None else (0, 1, 2)
  (value, new), grads = jax.jit(
    jax.value_and_grad(loss, every, has_aux=True)
  )(params, weights, jnp.asarray(hidden))

  other = copied(params, spec, pairs)
  h = tensor(hidden).requires_grad_()
  p = None if weights is None else tensor(weights).requires_grad_()
  logits, last, states, dropped = other(
    tensor(tokens), h, p, [tensor(mask) for mask in masks]
  )
  wanted = (torch.log_softmax(logits, -1) * tensor(probe)).sum()
  wanted = wanted + dropped.square().sum() + states.square().sum()
  wanted = wanted + last.square().sum()
  wanted.backward()

  def close(found, expected):
    expected = expected.detach().numpy()
    size = max(1.0, abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * size)

  close(value, wanted)
  close(grads[-1], h.grad)
  close(grads[0]["embedding"], other.encoder.weight.grad)
  close(grads[0]["bias"], other.decoder.bias.grad)
  by_w0 = [grads[0]["input"], grads[0]["cell"]["hidden"]]
  close(jnp.concatenate(by_w0), other.w0.grad)
  for found, w in zip(grads[0]["cell"]["nodes"], other.ws, strict=True):
    close(found, w.grad)
  if weights is not None:
    close(grads[1], p.grad)
    close(new["batch_stats"]["mean"], other.norm.running_mean)
    close(new["batch_stats"]["var"], other.norm.running_var)
