"""Folders and tars of images: read, refused, cached."""

import os
import shutil
import tarfile
import warnings

from made_up_files import pack, png, tree_files, unpack
import numpy as np
import pytest

from jnas.data import archives, sources


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("JNAS_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.mark.parametrize("member", [
    "../../x/a.png", "/etc/x.png", "a/../../b.png", "C:\\x\\a.png",
    "..\\..\\a.png"])
def test_a_tar_member_stays_inside(tmp_path, member):
  (tmp_path / "in").mkdir()
  path = pack(tmp_path / "in" / "t.tar", {member: png(0)}, "w")
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(ValueError, match="leaves it"):
    sources.load("folder", path)
  assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE,
                                  tarfile.FIFOTYPE])
def test_a_tar_member_is_no_link(tmp_path, kind):
  member = tarfile.TarInfo("cat/a.png")
  member.type, member.linkname = kind, "/etc/passwd"
  with tarfile.open(tmp_path / "t.tar", "w") as tar:
    tar.addfile(member)
  with pytest.raises(ValueError, match="a link or a device"):
    sources.load("folder", tmp_path / "t.tar")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2", "w"])
def test_a_truncated_archive(tmp_path, mode, share):
  rng = np.random.default_rng(0)
  files = {f"cat/{i}.png": rng.bytes(2000) for i in range(5)}
  path = pack(tmp_path / "c.tar", files, mode)
  whole = path.read_bytes()
  if mode == "w":  # beyond the padding at the end
    whole = whole[:sum(512 + -(-len(f) // 512) * 512 for f in files.values())]
  path.write_bytes(whole[:int(share * len(whole))])
  with pytest.raises(ValueError, match="truncated, damaged"):
    list(archives.members(path, lambda name: True))


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_an_archive_without_its_last_bytes(tmp_path, mode):
  path = pack(tmp_path / "t.tar", tree_files(), mode)
  path.write_bytes(path.read_bytes()[:-4])  # of the checksum
  with pytest.raises(ValueError, match="truncated, damaged"):
    sources.load("folder", path)


def test_an_archive_cut_between_two_members(tmp_path):
  path = pack(tmp_path / "t.tar", tree_files(), "w")
  path.write_bytes(path.read_bytes()[:4 * 1024])  # header and file: 1024
  with pytest.raises(ValueError, match="no end-of-archive block"):
    sources.load("folder", path)


@pytest.mark.parametrize("parts", [
    ("train/", "test/"), ("train/", "val/"), ("my/set/train/", "my/set/test/"),
    ("./train/", "./test/")])
@pytest.mark.parametrize("packing", ["w", "w:gz", "w:xz", "folder"])
def test_folder(tmp_path, parts, packing):
  files = tree_files(parts)
  files = dict(sorted(files.items(), key=lambda item: hash(item[1])))
  files |= {"README.md": b"text", parts[0] + "cat/._0.png": b"resource fork",
            "__MACOSX/cat/0.png": b"another"}
  path = (unpack(tmp_path / "d", files) if packing == "folder" else
          pack(tmp_path / "d.tar", files, packing))
  data = sources.load("folder", path)
  assert data.classes == ("cat", "dog")
  for p, x, y in ((0, data.train_x, data.train_y), (1, data.test_x,
                                                    data.test_y)):
    np.testing.assert_array_equal(y, [0, 0, 0, 1, 1, 1])
    assert x.shape == (6, 3, 4, 3)
    expected = [(10 * i, c, p) for c in range(2) for i in range(3)]
    np.testing.assert_array_equal(x[:, 0, 0], expected)
    np.testing.assert_array_equal(x[:, 2, 3], expected)


def test_folder_prefers_test_to_val(tmp_path):
  path = unpack(tmp_path, tree_files(("train/", "val/", "test/")))
  data = sources.load("folder", path)
  assert len(data.test_x) == 6 and (data.test_x[..., 2] == 2).all()


@pytest.mark.parametrize("part", ["", "train/", "some/where/"])
def test_folder_without_test_part(tmp_path, part):
  path = pack(tmp_path / "d.tar", tree_files((part,), 10))
  first, again, other = (
      sources.load("folder", path, seed=seed) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first.test_x, again.test_x)
  assert (first.test_x != other.test_x).any()
  for data in (first, other):
    np.testing.assert_array_equal(np.bincount(data.train_y), [8, 8])
    np.testing.assert_array_equal(np.bincount(data.test_y), [2, 2])
    everything = np.concatenate([data.train_x, data.test_x])[:, 0, 0]
    assert len(np.unique(everything, axis=0)) == 20


def test_folder_of_grey_and_mixed_images(tmp_path):
  grey = {f"{c}/{i}.png": png(20 * i, mode="L") for c in "ab" for i in range(5)}
  data = sources.load("folder", unpack(tmp_path / "g", grey))
  assert data.train_x.shape == (8, 3, 4, 1)
  mixed = {**grey, "b/9.png": png((1, 2, 3)),
           "a/8.png": png((4, 5, 6, 7), mode="RGBA")}
  data = sources.load("folder", unpack(tmp_path / "m", mixed))
  pixels = np.concatenate([data.train_x, data.test_x])[:, 0, 0].tolist()
  assert [1, 2, 3] in pixels and [4, 5, 6] in pixels and [80] * 3 in pixels


def test_wrong_folders(tmp_path):
  def raises(name, files, match):
    with pytest.raises(ValueError, match=match):
      sources.load("folder", pack(tmp_path / name, files))

  good = tree_files()
  raises("size", {**good, "train/cat/7.png": png(0, (5, 3))},
         r"'train/cat/0.png' with \(3, 4\).*'train/cat/7.png' with \(3, 5\)")
  raises("flat", {**good, "loose.png": png(0)}, "'loose.png' outside any")
  raises("only flat", {"a.png": png(0)}, "'a.png' outside any")
  raises("empty", {"README": b""}, "found none")
  raises("new", {**good, "test/eel/0.png": png(0)}, "found the class 'eel'")
  raises("deep", {**good, "more/train/cat/0.png": png(0)}, "two levels below")
  raises("one", {"cat/0.png": png(0), "cat/1.png": png(0)}, "two classes")
  raises("tests", tree_files(("test/",)), "two levels below 'test'")
  raises("broken", {**good, "train/cat/0.png": png(0)[:30]},
         "'train/cat/0.png'; found 30 bytes")
  raises("text", {**good, "train/cat/0.png": b"hello"}, "cannot be decoded")
  raises("deep pixels", {**good, "train/cat/0.png": png(9, mode="I;16")},
         "8 bits a channel; found mode I;16")
  path = unpack(tmp_path / "hole", good)
  (path / "train" / "eel").mkdir()
  with pytest.raises(ValueError, match="3 classes .* found none of eel"):
    sources.load("folder", path)
  (tmp_path / "zip").write_bytes(b"PK\3\4" + bytes(2000))
  with pytest.raises(ValueError, match="of another kind"):
    sources.load("folder", tmp_path / "zip")


def test_decoded_images_are_cached(tmp_path, cache, monkeypatch):
  path = pack(tmp_path / "d.tar.xz", tree_files(), "w:xz")
  first = sources.load("folder", path)
  assert [p.suffix for p in cache.iterdir()] == [".npz"]
  with monkeypatch.context() as patch:
    patch.setattr(archives, "decode", None)
    second = sources.load("folder", path)
    with pytest.raises(TypeError):
      sources.load("folder", path, cache_dir=tmp_path / "elsewhere")
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a, b)
  pack(path, tree_files(each=4), "w:xz")
  assert len(sources.load("folder", path).train_x) == 8
  file = "train/cat/0.bmp"  # keeps its size
  folder = unpack(tmp_path / "f", {
      **tree_files(), file: png((5, 5, 5), kind="BMP")})
  for value in (5, 7):
    (folder / file).write_bytes(png((value,) * 3, kind="BMP"))
    os.utime(folder / file, (value, value))
    assert (sources.load("folder", folder).train_x[0] == value).all()


def test_a_damaged_cache_is_built_again(tmp_path, cache):
  path = pack(tmp_path / "d.tar", tree_files())
  first = sources.load("folder", path)
  file = next(cache.iterdir())
  for damaged in (file.read_bytes()[:-50], b"", b"not a zip"):
    file.write_bytes(damaged)
    with pytest.warns(UserWarning, match="building the cache again"):
      again = sources.load("folder", path)
    np.testing.assert_array_equal(first.train_x, again.train_x)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    sources.load("folder", path)
  assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("in the way")
  path = pack(tmp_path / "d.tar", tree_files())
  with pytest.warns(UserWarning, match="Set JNAS_CACHE"):
    data = sources.load("folder", path, cache_dir=tmp_path / "file" / "c")
  assert len(data.train_x) == 6


def test_real_images(real_data, cache):
  path = real_data / "cifar10-jpeg.tar.xz"
  if not path.exists():
    pytest.skip(f"needs {path.name} among the real data")
  data = sources.load("folder", path, limit=1000)
  again = sources.load("folder", path, limit=1000)
  shutil.rmtree(cache)  # 184 MB, which pytest would keep
  np.testing.assert_array_equal(data.train_x, again.train_x)
  np.testing.assert_array_equal(np.bincount(data.train_y), [100] * 10)
  np.testing.assert_allclose(data.mean, (0.4913, 0.4821, 0.4465), atol=1e-4)
  np.testing.assert_allclose(data.std, (0.2452, 0.2428, 0.2606), atol=1e-4)
  assert data.classes[0] == "airplane" and data.classes[9] == "truck"
