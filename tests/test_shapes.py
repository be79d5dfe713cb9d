"""Shapes and types that do not fit are told when a program is traced.

All of these would be spread over other axes without a word, or fail far away.
"""

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import pytest

from jnas import hypergrad, relax
from jnas.data import device
from jnas.spaces import cnn, rnn
from jnas.spaces.spec import S2, supernet
from jnas.training import losses

LOGITS = jnp.zeros((3, 4))


@pytest.mark.parametrize(
  "relaxation", [relax.softmax, relax.sigmoid, relax.gumbel_hard]
)
@pytest.mark.parametrize("shape", [(4,), (3, 1), (1, 4), (3,)], ids=str)
def test_relaxations(relaxation, shape):
  with pytest.raises(AssertionError, match="shape|rank"):
    relaxation(LOGITS, jnp.ones(shape))
  with pytest.raises(AssertionError, match="rank"):
    jax.eval_shape(relaxation, jnp.zeros(4))


@pytest.mark.parametrize(
  "call",
  [
    lambda: relax.edge_norm(jnp.zeros((2, 1)), (2, 2)),
    lambda: relax.edge_norm(jnp.zeros(1), (2, 2)),
    lambda: relax.dst_sparsify(LOGITS, jnp.zeros(1), (2, 2, 3)),
    lambda: relax.dst_sparsify(LOGITS, jnp.zeros(2), (2, 3)),
    lambda: losses.cross_entropy(LOGITS, jnp.zeros(1, int)),
    lambda: losses.correct(LOGITS, jnp.zeros((3, 1), int)),
    lambda: losses.correct(LOGITS, jnp.zeros(3)),
    lambda: device.take(device.split(LOGITS, LOGITS[:, 0]), jnp.ones(3, bool)),
  ],
  ids=range(8),
)
def test_functions(call):
  with jax.numpy_rank_promotion("allow"), pytest.raises(AssertionError):
    call()


def test_edge_weights_of_another_cell():
  spec = supernet(S2, cells=3, width=2, classes=2, nodes=1)
  network, x = cnn.Network(spec), jax.ShapeDtypeStruct((1, 4, 4, 1), float)
  for shape in ((1, 2), (2, 1), (2,)):
    weights = {"normal": jnp.ones((2, 2)), "reduce": jnp.ones(shape)}
    with pytest.raises(AssertionError, match="shape"):
      jax.eval_shape(
        lambda x, weights: network.init(
          jax.random.key(0), x, weights, train=False
        ),
        x,
        weights,
      )


@pytest.mark.parametrize(
  "tokens, hidden, weights",
  [((5,), (2, 4), None), ((5, 2), (1, 4), None), ((5, 2), (2, 4), (1, 5))],
  ids=str,
)
def test_recurrent_networks(tokens, hidden, weights):
  network = rnn.LanguageModel(rnn.supernet(2, width=4, vocabulary=7))
  given = jnp.zeros(tokens, int), jnp.zeros(hidden)
  weights = None if weights is None else {rnn.NAME: jnp.ones(weights)}
  with pytest.raises(AssertionError, match="shape|rank"):
    jax.eval_shape(
      lambda: network.init(jax.random.key(0), *given, weights, train=False)
    )


def test_a_mean_that_changes_what_it_averages():
  def loss(w, alpha):
    return jnp.sum(w**2 * alpha)

  w = alpha = jnp.ones(2)
  with pytest.raises(AssertionError):
    hypergrad.first_order(
      loss, loss, w, alpha, mean=lambda t: jax.tree.map(lambda x: x[None], t)
    )


class Variants(chex.TestCase):
  """Relaxations are the same compiled, traced and on a device."""

  @chex.variants(with_jit=True, without_jit=True, with_device=True)
  @parameterized.named_parameters(
    # By name: what a test is called may not depend on the process.
    *((form.__name__, form)
      for form in (relax.softmax, relax.sigmoid, relax.gumbel_hard))
  )
  def test_relaxation(self, relaxation):
    logits = jnp.array([[0.5, -1.0, 2.0], [0.1, 0.2, -0.3]])
    mask = jnp.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    got = self.variant(relaxation)(logits, mask)
    chex.assert_trees_all_close(got, relaxation(logits, mask), atol=1e-6)
    chex.assert_tree_all_finite(got)
