"""Networks that segment: any network of cells, then the head of DeepLabV3."""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from jnas.ops import backend as backend_lib
from jnas.ops import table
from jnas.ops.backend import Backend
from jnas.ops.plain import convolution
from jnas.spaces import cnn
from jnas.spaces.norm import BatchNorm

Array = jax.Array
_RATES, _STRIDE = (6, 12, 18), 16  # that the rates are for


class Head(nn.Module):
  """Atrous spatial pyramid pooling (Chen et al. 2017, 1706.05587, section 3.3).

  A 1 x 1 convolution, three of 3 x 3 with dilations of 6, 12 and 18 at an
  output stride of 16 (twice that at 8), and the mean over all pixels with a
  1 x 1 convolution, side by side; a 1 x 1 convolution of all five, dropout, and
  the classifier of each pixel. Normalisation and ReLU follow each convolution
  but the last; dropout is that of the authors' code.

  Attributes:
    classes: number of classes.
    channels: of each convolution but the last; 256 in the paper.
    output_stride: of the features.
    dropout: rate in training.
    train: whether normalisations use the statistics of this batch.
    axis: mesh axis over which they are shared, or None.
    backend: how normalisations are computed.
  """

  classes: int
  channels: int
  output_stride: int
  dropout: float
  train: bool
  axis: str | None = None
  backend: Backend = backend_lib.CPU

  @nn.compact
  def __call__(self, x: Array, keys: Array | None = None) -> Array:
    """Logits of each pixel: [N, H, W, K], in float32 or better.

    Args:
      x: [N, H, W, C].
      keys: [N], one typed key an example, for dropout; None for none.
    """
    pooled = x.mean((1, 2), keepdims=True)
    branches = [self._convolved("point", x)]
    for i, rate in enumerate(_RATES):
      rate = max(1, rate * _STRIDE // self.output_stride)
      branches.append(self._convolved(f"dilated{i}", x, 3, rate))
    pooled = self._convolved("image", pooled)
    branches.append(jnp.broadcast_to(pooled, branches[0].shape))
    x = self._convolved("projection", jnp.concatenate(branches, -1))
    if self.train and keys is not None and self.dropout:
      kept = jax.vmap(
        lambda key: jax.random.bernoulli(key, 1 - self.dropout, x.shape[1:])
      )(keys)
      x = jnp.where(kept, x / (1 - self.dropout), 0)
    flat = x.reshape(-1, self.channels)
    logits = cnn.Dense(self.classes, name="classifier")(flat)
    return logits.reshape(*x.shape[:3], self.classes)

  def _convolved(self, name: str, x: Array, size: int = 1, rate: int = 1):
    c, d = x.shape[-1], self.channels
    init = table.fan_in_uniform(size**2 * c)
    kernel = self.param(name, init, (size, size, c, d))
    x = convolution(x, kernel, 1, rate)
    norm = BatchNorm(
      self.train, axis=self.axis, backend=self.backend, name=f"{name}_norm"
    )
    return jax.nn.relu(norm(x))


class Network(nn.Module):
  """A backbone whose features the head makes logits of, for each pixel.

  Attributes:
    backbone: with an output stride; its parameters and statistics are those of
      a classifier without auxiliary head and classifier.
    classes: number of classes.
    channels: of the head.
    dropout: rate in the head.
  """

  backbone: cnn.Network
  classes: int
  channels: int = 256
  dropout: float = 0.1

  @nn.compact
  def __call__(
    self,
    x: Array,
    drop: Any = None,
    keys: Array | None = None,
    *,
    train: bool,
  ) -> Array:
    """Logits [N, H, W, K], bilinear from those at the output stride.

    Args:
      x: [N, H, W, channels], normalised images.
      drop: of `cnn.drop_factors`, or None.
      keys: [N], one typed key an example, for dropout; None for none.
      train: whether normalisations use the statistics of this batch.
    """
    features, _ = self.backbone(x, None, drop, train=train)
    head = Head(
      self.classes,
      self.channels,
      self.backbone.output_stride,
      self.dropout,
      train,
      self.backbone.axis,
      self.backbone.backend,
      name="head",
    )
    logits = head(features, keys)
    shape = (*x.shape[:3], self.classes)
    return jax.image.resize(logits, shape, "bilinear")
