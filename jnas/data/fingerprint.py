"""A short name for the contents of arrays, to notice when data have changed."""

import hashlib

import numpy as np

from jnas.data.files import Files


def fingerprint(*arrays: np.ndarray | Files) -> str:
  """Returns 32 hexadecimal digits of the arrays' types, shapes and values.

  Of images that stay in files names and sizes count, not contents.

  >>> a = np.arange(6)
  >>> fingerprint(a) == fingerprint(a.copy())
  True
  >>> fingerprint(a) == fingerprint(a.reshape(2, 3))
  False
  """
  digest = hashlib.blake2b(digest_size=16)
  for array in arrays:
    parts = (array,)
    if isinstance(array, Files):
      parts = array.names, array.file_sizes()
    for part in map(np.ascontiguousarray, parts):
      digest.update(f"{part.dtype.str}{part.shape}".encode())
      digest.update(part.reshape(-1).view(np.uint8))
  return digest.hexdigest()
