"""Networks that segment: strides, dilation, the head, what is measured."""

import functools
import types

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest
from test_cnn import drawn, normal

from jnas.genotype import ZOO, Genotype, NasBench201Genotype, StackGenotype
from jnas.ops import plain
from jnas.spaces import cnn, dilation, discrete, segment
from jnas.training import losses, segmentation

TINY = Genotype(
  [("sep_conv_3x3", 0), ("dil_conv_3x3", 1), ("avg_pool_3x3", 2)],
  (2, 3),
  [("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 2)],
  (2, 3),
)
WITHOUT_KERNELS = [("skip_connect", 0), ("max_pool_3x3", 1)]
BENCH = NasBench201Genotype(
  ((("nor_conv_3x3", 0),), (("none", 0), ("skip_connect", 1)),
   (("skip_connect", 0), ("avg_pool_3x3", 1), ("none", 2)))
)


def backbone(genotype, output_stride, cells=4, width=4, imagenet=True):
  spec = discrete.derived(
    genotype, cells=cells, width=width, classes=3, imagenet=imagenet
  )
  return cnn.Network(spec, output_stride=output_stride)


def shape_of(network, *size):
  x = jnp.zeros((2, *size, 3))
  run = functools.partial(network.init_with_output, train=False)
  (features, _), variables = jax.eval_shape(run, jax.random.key(0), x)
  assert "classifier" not in variables["params"]
  return features.shape


@pytest.mark.parametrize(
  "genotype, cells, width, imagenet, stride",
  [
    (TINY, 4, 4, True, 16),
    (TINY, 4, 4, True, 8),
    (TINY, 4, 4, True, 32),
    (TINY, 4, 4, False, 4),
    (TINY, 4, 4, False, 2),
    (TINY, 3, 4, True, 8),  # both reductions after each other
    (ZOO["DARTS_V2"], 4, 4, True, 16),
    (ZOO["GDAS_F1"], 4, 8, True, 16),
    (StackGenotype([WITHOUT_KERNELS] * 4, [2]), 4, 4, True, 16),
    (BENCH, 1, 4, False, 2),
  ],
)
@pytest.mark.parametrize("size", [(64, 96), (65, 33)])
def test_features_have_the_stride_that_is_asked_for(
  genotype, cells, width, imagenet, stride, size
):
  network = backbone(genotype, stride, cells, width, imagenet)
  n, h, w, _ = shape_of(network, *size)
  assert (n, h, w) == (2, *(-(-length // stride) for length in size))


def test_a_network_that_is_finer_stays_so():
  assert shape_of(backbone(TINY, 16, imagenet=False), 32, 32)[1:3] == (8, 8)


@pytest.mark.parametrize(
  "genotype, cells, imagenet, coarse, fine",
  [
    (TINY, 4, True, 32, 16),
    (TINY, 4, True, 32, 8),
    (TINY, 3, False, 4, 1),
    (BENCH, 1, False, 4, 2),
  ],
)
def test_dilation_adds_pixels_between_those_of_the_network(
  genotype, cells, imagenet, coarse, fine
):
  x = normal(1, 67, 96, 3) if imagenet else normal(1, 19, 16, 3)
  found = []
  for stride in (coarse, fine):
    network = backbone(genotype, stride, cells, imagenet=imagenet)
    run = jax.jit(functools.partial(network.apply, train=False))
    shapes = functools.partial(network.init, train=False)
    variables = drawn(jax.eval_shape(shapes, jax.random.key(0), x))
    found.append(run(variables, x)[0])
  every = coarse // fine
  assert found[0].std() > 0.01
  np.testing.assert_allclose(
    found[1][:, ::every, ::every], found[0], rtol=1e-4, atol=1e-5
  )


def test_pixels_between_are_those_of_the_network_on_a_moved_image():
  narrow = Genotype(
    [("sep_conv_3x3", 0), ("skip_connect", 1)],
    (2,),
    [("skip_connect", 0), ("max_pool_3x3", 1)],
    (2,),
  )
  x = normal(1, 56, 56, 3)
  coarse, fine = (backbone(narrow, s, imagenet=False) for s in (4, 1))
  shapes = functools.partial(fine.init, train=False)
  variables = drawn(jax.eval_shape(shapes, jax.random.key(0), x))
  dense = jax.jit(functools.partial(fine.apply, train=False))(variables, x)[0]
  run = jax.jit(functools.partial(coarse.apply, train=False))
  for i, j in ((1, 0), (2, 3), (3, 3)):
    moved = jnp.pad(x[:, i:, j:], ((0, 0), (0, i), (0, j), (0, 0)))
    alone = run(variables, moved)[0]
    inside = (slice(None), slice(5, 9), slice(5, 9))  # far from borders
    np.testing.assert_allclose(
      dense[:, i::4, j::4][inside], alone[inside], rtol=1e-4, atol=1e-5
    )


def dilated_pool(x, rate):
  return lax.reduce_window(
    x, -jnp.inf, lax.max, (1, 3, 3, 1), (1,) * 4,
    ((0, 0), (rate, rate), (rate, rate), (0, 0)),
    window_dilation=(1, rate, rate, 1),
  )


@pytest.mark.parametrize("size", [(12, 10), (13, 9)])
def test_operators_in_phases_are_dilated_operators(size):
  x = normal(2, *size, 4)
  kernel = normal(3, 3, 4, 4, seed=1)

  def in_phases(op, times=1):
    y, sizes = x, []
    for _ in range(times):
      sizes.append(y.shape[1:3])
      y = dilation.phases(y)[:, ::2, ::2]
    y = op(y)
    for own in reversed(sizes):
      y = dilation.interleaved(y, own)
    return y

  np.testing.assert_array_equal(in_phases(lambda y: y), x)
  np.testing.assert_array_equal(in_phases(lambda y: y, 2), x)
  for times, rate in ((1, 2), (2, 4)):
    convolved = in_phases(lambda y: plain.convolution(y, kernel), times)
    expected = plain.convolution(x, kernel, 1, rate)
    if size[0] % 2:  # one phase is shorter, and padded
      convolved = convolved[:, :-rate, :-rate]
      expected = expected[:, :-rate, :-rate]
    np.testing.assert_allclose(convolved, expected, rtol=1e-5, atol=1e-5)
  if size[0] % 2 == 0:
    np.testing.assert_array_equal(in_phases(plain.max_pool), dilated_pool(x, 2))


def test_a_reduction_in_phases_moves_by_one_pixel():
  x, kernel = normal(2, 12, 10, 4), normal(3, 3, 4, 4, seed=1)
  for op in (
    lambda y, stride: plain.convolution(y, kernel, stride),
    plain.max_pool,
  ):
    y = dilation.interleaved(op(dilation.phases(x), 2), x.shape[1:3])
    inside = (slice(None), slice(2, -1), slice(2, -1))
    np.testing.assert_allclose(
      y[inside], op(x, 1)[inside], rtol=1e-5, atol=1e-5
    )


def test_an_example_is_dropped_in_all_of_its_phases():
  network = backbone(TINY, 16)
  x = normal(2, 32, 32, 3)
  keys = jax.random.split(jax.random.key(0), 2)
  drop = cnn.drop_factors(keys, network.spec, path=jnp.float32(0.5))
  shapes = functools.partial(network.init, train=False)
  variables = drawn(jax.eval_shape(shapes, jax.random.key(0), x))
  run = jax.jit(functools.partial(network.apply, train=False))
  both = run(variables, x, None, drop)[0]
  for i in range(2):
    own = run(variables, x[i : i + 1], None, [d[i : i + 1] for d in drop])[0]
    np.testing.assert_allclose(both[i : i + 1], own, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def small():
  """A network that segments, and its variables."""
  network = segment.Network(backbone(TINY, 16), classes=3, channels=4)
  shapes = functools.partial(network.init, train=False)
  x = jnp.zeros((1, 32, 32, 3))
  return network, drawn(jax.eval_shape(shapes, jax.random.key(0), x))


def test_logits_have_the_size_of_the_images(small):
  network, variables = small
  run = functools.partial(network.apply, variables, train=False)
  assert jax.eval_shape(run, jnp.zeros((2, 50, 34, 3))).shape == (2, 50, 34, 3)
  head = variables["params"]["head"]
  assert head["projection"].shape == (1, 1, 5 * 4, 4)
  assert head["dilated0"].shape == (3, 3, 32, 4)


def test_the_pyramid_has_the_rates_of_the_paper():
  """What a pixel of each branch sees of the features: three by three."""
  for stride, rate in ((16, 6), (8, 12), (32, 3)):
    head = segment.Head(2, 1, stride, 0.0, train=False)
    x = jnp.zeros((1, 65, 65, 1)).at[0, 32, 32, 0].set(1.0)
    variables = drawn(jax.eval_shape(head.init, jax.random.key(0), x))

    def branch(x, head=head, variables=variables):
      _, seen = head.apply(
        variables, x, capture_intermediates=True, mutable=["intermediates"]
      )
      return {
        name: seen["intermediates"][f"dilated{i}_norm"]["__call__"][0]
        for i, name in enumerate("abc")
      }

    moved = jax.tree.map(lambda a, b: a - b, branch(x), branch(0 * x))
    for times, name in enumerate("abc", 1):
      rows = np.unique(np.nonzero(np.asarray(moved[name][0, :, :, 0]))[0])
      own = times * rate
      expected = [r for r in (32 - own, 32, 32 + own) if 0 <= r < 65]
      assert rows.tolist() == expected


def test_dropout_is_of_an_example_and_of_training_alone():
  head = segment.Head(2, 4, 16, 0.5, train=True)
  x = normal(2, 3, 3, 4)
  variables = drawn(jax.eval_shape(head.init, jax.random.key(0), x))
  keys = jax.random.split(jax.random.key(1), 2)
  run = functools.partial(head.apply, mutable=["batch_stats"])
  plain_logits, dropped = run(variables, x)[0], run(variables, x, keys)[0]
  swapped = run(variables, x[::-1], keys[::-1])[0]
  assert abs(plain_logits - dropped).max() > 1e-3
  np.testing.assert_allclose(swapped[::-1], dropped, rtol=1e-4, atol=1e-5)
  calm = head.clone(train=False)
  np.testing.assert_array_equal(
    calm.apply(variables, x, keys), calm.apply(variables, x)
  )


def test_iou_is_that_of_plain_numpy():
  rng = np.random.default_rng(0)
  truth = rng.integers(0, 4, (3, 8, 9))
  truth[rng.random(truth.shape) < 0.3] = segmentation.IGNORED
  predicted = rng.integers(0, 5, truth.shape)  # class 5 is nowhere
  counts = sum(
    np.asarray(segmentation.confusion(*pair, 6), np.int64)
    for pair in zip(predicted, truth, strict=True)
  )
  known = truth != segmentation.IGNORED
  expected = [
    ((predicted == k) & (truth == k)).sum()
    / (((predicted == k) | (truth == k)) & known).sum()
    for k in range(4)
  ]
  found = segmentation.intersections_over_unions(counts)
  np.testing.assert_allclose(found[:5], [*expected, 0.0])
  assert np.isnan(found[5])
  values = segmentation.means(counts, loss=12.0)
  np.testing.assert_allclose(values["mean_IoU"], np.mean([*expected, 0.0]))
  np.testing.assert_allclose(
    values["accuracy"], (predicted == truth)[known].mean()
  )
  np.testing.assert_allclose(values["loss"], 12.0 / known.sum())


def test_ignored_pixels_have_neither_loss_nor_gradient():
  logits, labels = normal(1, 2, 2, 3), jnp.asarray([[[0, 255], [2, 255]]])
  loss, counts = segmentation.cross_entropy(logits, labels)
  log_p = jax.nn.log_softmax(logits)
  np.testing.assert_allclose(
    loss[0], [[-log_p[0, 0, 0, 0], 0], [-log_p[0, 1, 0, 2], 0]], rtol=1e-6
  )
  assert counts.tolist() == [[[1.0, 0.0], [1.0, 0.0]]]
  own = jax.grad(lambda y: segmentation.cross_entropy(y, labels)[0].sum())
  gradient = own(logits)
  assert not gradient[0, :, 1].any() and gradient[0, :, 0].all()


def test_the_loss_is_that_of_all_pixels_whatever_replica_has_them():
  """Replicas of which one has hardly a pixel that counts."""
  network = types.SimpleNamespace(
    apply=lambda variables, x, *args, **options: (x, {"batch_stats": {}})
  )
  labels = np.full((2, 3, 4), segmentation.IGNORED)
  labels[0, :, :3], labels[1, 0, 0] = 1, 2
  logits, keys = normal(2, 3, 4, 3), jax.random.split(jax.random.key(0), 2)

  def loss(rows, mean):
    own = segmentation.objective(network, mean)
    batch = losses.Batch(logits[rows], jnp.asarray(labels)[rows], keys[rows])
    value, outcome = own({}, {}, None, batch, None)
    return np.array([value, outcome.scores["accuracy"]])

  mean = (labels != segmentation.IGNORED).sum() / 2
  halves = [loss(slice(i, i + 1), lambda own: mean) for i in range(2)]
  np.testing.assert_allclose(
    np.mean(halves, 0), loss(slice(0, 2), lambda own: own), rtol=1e-6
  )
  known = labels != segmentation.IGNORED
  log_p = np.asarray(jax.nn.log_softmax(logits))
  expected = -np.mean([log_p[(*at, labels[tuple(at)])]
                       for at in np.argwhere(known)])
  np.testing.assert_allclose(np.mean(halves, 0)[0], expected, rtol=1e-5)
