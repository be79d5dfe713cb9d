"""Texts: tokens, vocabulary, what is unknown, what is told of bad files."""

import os

import numpy as np
import pytest

from jnas.data import text


def folder(path, train, valid="a\n", test="a\n"):
  for name, content in zip(text.SPLITS, (train, valid, test), strict=True):
    (path / f"{name}.txt").write_bytes(
      content if isinstance(content, bytes) else content.encode()
    )
  return path


def test_words(tmp_path):
  data = text.load(folder(tmp_path, "b a\n\na\n", "a b c\n", "c\nc a"))
  assert data.vocabulary == ("b", "a", "<eos>", "<unk>")
  assert data.train.tolist() == [0, 1, 2, 2, 1, 2]
  assert data.valid.tolist() == [1, 0, 3, 2]
  assert data.test.tolist() == [3, 2, 3, 1, 2]
  assert data.unknown == (1, 2) and data.characters == (7, 6, 5)
  assert data.text(data.train) == "b a\n\na\n"
  assert data.train.dtype == np.int32


def test_a_text_that_knows_all_gets_no_unknown(tmp_path):
  data = text.load(folder(tmp_path, "a <unk> b\n", "a c\n"))
  assert data.vocabulary == ("a", "<unk>", "b", "<eos>")
  assert data.valid.tolist() == [0, 1, 3] and data.unknown == (1, 0)
  data = text.load(folder(tmp_path, "a b\n", "b\n"))
  assert "<unk>" not in data.vocabulary and data.unknown == (0, 0)


def test_characters(tmp_path):
  data = text.load(folder(tmp_path, "ab\n", "b\n", "é"), "character")
  assert data.vocabulary == ("a", "b", "\n", "<unk>")
  assert data.train.tolist() == [0, 1, 2] and data.unknown == (0, 1)
  assert data.text(data.train) == "ab\n"


@pytest.mark.parametrize("level", text.LEVELS)
def test_one_file_is_parted_at_line_ends(tmp_path, level):
  file = tmp_path / "a.txt"
  file.write_text("".join(f"line {i}\n" for i in range(1000)))
  data = text.load(file, level)
  whole = sum(data.characters)
  assert whole == file.stat().st_size
  assert abs(data.characters[0] / whole - 0.9) < 0.01
  assert abs(data.characters[1] / whole - 0.05) < 0.01
  for part in (data.train, data.valid, data.test):
    assert data.text(part)[-1] == "\n"


def test_the_help_texts_of_python_are_the_default():
  data = text.load(level="character")
  assert data.train.size > 300_000 and 60 < len(data.vocabulary) < 300
  assert "class" in data.text(data.train)
  words = text.load(limit=1000)
  assert words.train.size == 1000 and sum(words.unknown) > 1000


def test_windows_line_ends_and_a_byte_order_mark(tmp_path):
  data = text.load(folder(tmp_path, b"\xef\xbb\xbfa b\r\na\r\n"))
  assert data.vocabulary == ("a", "b", "<eos>")


@pytest.mark.parametrize(
  "content, message",
  [
    (b"", "found an empty file"),
    (b" \n\n", "found white space alone"),
    (b"ab\0c\n", "found a byte of zero at 2, as binary files have"),
    (b"caf\xe9 b\n", "found byte 0xe9 at 3. Convert it"),
  ],
)
@pytest.mark.parametrize("part", [0, 2])
def test_what_is_no_text_is_told(tmp_path, content, message, part):
  parts = ["a b\n"] * 3
  parts[part] = content
  with pytest.raises(ValueError, match=message) as error:
    text.load(folder(tmp_path, *parts))
  assert f"{text.SPLITS[part]}.txt" in str(error.value)
  assert "\n" not in str(error.value)


def test_what_is_not_there_is_told(tmp_path):
  with pytest.raises(FileNotFoundError, match="a text file, or a folder with"):
    text.load(tmp_path / "nowhere")
  (tmp_path / "valid.txt").write_text("a")
  with pytest.raises(FileNotFoundError, match="found no train.txt and no test"):
    text.load(tmp_path)
  os.mkfifo(tmp_path / "train.txt")
  (tmp_path / "test.txt").write_text("a")
  with pytest.raises(ValueError, match="expected a regular file"):
    text.load(tmp_path)
  with pytest.raises(ValueError, match="word or character; got 'letter'"):
    text.load(tmp_path, "letter")


def test_a_text_over_budget_is_told(tmp_path, monkeypatch):
  folder(tmp_path, "a " * 100)
  monkeypatch.setenv("JNAS_DATA_BUDGET", "0.00000005")
  with pytest.raises(ValueError, match="at most 13 bytes of a file"):
    text.load(tmp_path)


def test_published_numbers_of_tokens(real_data):
  ptb = text.load(real_data / "text" / "ptb")
  sizes = [part.size for part in (ptb.train, ptb.valid, ptb.test)]
  assert sizes == [929_589, 73_760, 82_430]
  assert len(ptb.vocabulary) == 10_000 and ptb.unknown == (0, 0)


@pytest.mark.slow
def test_published_numbers_of_wikitext(real_data):
  data = text.load(real_data / "text" / "wikitext-2")
  assert (data.valid.size, data.test.size) == (217_646, 245_569)
  assert len(data.vocabulary) == 33_278 and data.unknown == (0, 0)
