"""Folders and tars with damage in them: a sentence, or what is right to do."""

import re

import made_up_damage as damage
import pytest

from jnas.data import decoding, sources, stream

CASES = 200


def read(path, cache):
  """What a run does with a data set: names of images that cannot be read."""
  data = sources.load("imagenet", path, cache_dir=cache, size=8)
  failed = {}
  for files in (data.train_x, data.test_x):
    reply = decoding.decode(stream.request(files))
    assert reply.images.shape == files.shape
    for row, why in reply.failed:
      failed[files.names[row].decode(errors="replace")] = why
      assert not reply.images[row].any()
  return failed


def check(place, kind, form, seed):
  path, due, about = damage.make(place, kind, form, seed)
  try:
    failed = read(path, place / "cache")
  except (ValueError, FileNotFoundError) as error:
    message = str(error)
    assert due in (damage.REFUSED, damage.EITHER), message
    if due == damage.REFUSED:
      assert re.search(about, message), message
    sentence(message)
    assert str(place) in message or "class" in message, message
    return
  assert due != damage.REFUSED, f"expected to be refused: {about}"
  for name, why in failed.items():
    sentence(why)
    assert name.rpartition("/")[2] in why or "\\" in why
  # In a tar there may be folders above, or part and class are in its name.
  found = {name.rpartition("/")[2] for name in failed}
  if due != damage.EITHER:
    assert found == {name.rpartition("/")[2] for name in about}
  elif about:
    assert found <= {name.rpartition("/")[2] for name in about}


def sentence(message):
  """A message says what was expected or cannot be, in a line that is short."""
  assert "Traceback" not in message and "\n" not in message
  assert 20 < len(message) < 1000, message
  assert message.startswith(("expected", "[Errno")), message


@pytest.mark.parametrize("kind", damage.KINDS)
def test_a_folder(tmp_path, kind):
  check(tmp_path, kind, "folder", 0)


@pytest.mark.parametrize("kind", damage.TAR_KINDS)
def test_a_tar(tmp_path, kind):
  check(tmp_path, kind, "one", 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(CASES))
def test_two_hundred(tmp_path, seed):
  kinds = [*damage.KINDS, *damage.TAR_KINDS]
  form = damage.FORMS[seed // len(kinds) % len(damage.FORMS)]
  check(tmp_path, kinds[seed % len(kinds)], form, seed)


def test_there_are_as_many_kinds_and_forms_as_that():
  kinds = len(damage.KINDS) + len(damage.TAR_KINDS)
  assert CASES > kinds * len(damage.FORMS)
