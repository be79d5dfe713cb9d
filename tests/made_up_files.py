"""Tiny archives and image files for the tests of the data sources."""

import io
import tarfile

from PIL import Image


def pack(path, files, mode="w:gz"):
  """Returns `path`, a tar of {name: contents}."""
  with tarfile.open(path, mode) as tar:
    for name, contents in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(contents)
      tar.addfile(member, io.BytesIO(contents))
  return path


def unpack(folder, files):
  """Returns `folder`, with {name: contents} as files in it."""
  for name, contents in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(contents)
  return folder


def png(value, size=(4, 3), mode="RGB", kind="PNG"):
  """Returns the bytes of an image (width, height) of one colour."""
  buffer = io.BytesIO()
  Image.new(mode, size, value).save(buffer, kind)
  return buffer.getvalue()


def tree_files(parts=("train/", "test/"), each=3):
  """Returns the files of two classes: colour (10 * i, class, part)."""
  return {
      f"{part}{group}/{i}.png": png((10 * i, c, p))
      for p, part in enumerate(parts) for c, group in enumerate(("cat", "dog"))
      for i in range(each)}
