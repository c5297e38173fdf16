"""Loading: tiny datasets in the Hub's layout, written here, read back through `datasets`; no network is touched."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import processes
import pytest
import scipy.sparse
from hub_layout import IMAGES, LABEL, TEXTS, pixels, png, rows, write, write_images

from scratchnet.data import DataError, hub, known, load, loading, store

pytestmark = pytest.mark.usefixtures("empty_cache")
WORDS = ["red green", "green blue", "blue red red", "Red! green?"]


def write_texts(folder, features=TEXTS, **more):
    splits = {
        "train": {"text": WORDS, "label": [0, 1, 2, 0]},
        "test": {"text": ["red", "unseen words", ""], "label": [0, 1, 2]},
    }
    return write(folder, {**splits, **more}, features)


def decodes(monkeypatch):
    """Counts how often a dataset is really read."""
    calls = []
    original = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: calls.append(a) or original(*a, **k))
    return calls


# --- what a dataset becomes ------------------------------------------------------------------------------------------


def test_grey_images(tmp_path):
    folder, x, z = write_images(tmp_path / "tiny")
    data = load(folder)
    assert (data.kind, data.classes, data.input_shape) == ("image", ["cat", "dog", "owl"], (5, 4, 1))
    assert (len(data.train), len(data.test)) == (12, 6)
    assert data.name == str(folder) and data.vocabulary is None and data.revision is None
    np.testing.assert_array_equal(data.train.x[..., 0], x)
    np.testing.assert_array_equal(data.test.x[..., 0], z)
    np.testing.assert_array_equal(data.train.y, np.arange(12) % 3)
    assert data.train.x.dtype == np.uint8 and data.train.y.dtype == np.int64
    assert isinstance(data.train.x, np.memmap) and not data.train.x.flags.writeable


def test_colour_images(tmp_path):
    folder, x, _ = write_images(tmp_path / "tiny", channels=3)
    data = load(folder)
    assert data.input_shape == (5, 4, 3)
    np.testing.assert_array_equal(data.train.x, x)


def test_more_images_than_are_decoded_at_once(tmp_path):
    folder, x, _ = write_images(tmp_path / "tiny", train=1100)  # > images.BLOCK and > hub.CELLS_AT_ONCE
    np.testing.assert_array_equal(load(folder).train.x[..., 0], x)


def test_one_coloured_image_makes_all_coloured(tmp_path):
    grey, colour = pixels(2), pixels(1, channels=3)
    splits = {"train": rows([png(i) for i in grey], [0, 1]), "test": rows([png(colour[0])], [2])}
    data = load(write(tmp_path / "tiny", splits))
    assert data.input_shape == (5, 4, 3)
    for channel in range(3):
        np.testing.assert_array_equal(data.train.x[..., channel], grey)
    np.testing.assert_array_equal(data.test.x, colour)


@pytest.mark.parametrize(
    ("mode", "form", "channels"),
    [("1", "PNG", 1), ("LA", "PNG", 1), ("P", "PNG", 3), ("RGBA", "PNG", 3), ("CMYK", "TIFF", 3)],
)
def test_other_modes_are_converted(tmp_path, mode, form, channels):
    source = np.where(pixels(1, channels=3)[0] > 127, 255, 0).astype(np.uint8)
    source[..., 1:] = source[..., :1] if channels == 1 else source[..., 1:]
    splits = {s: rows([png(source, mode, form)], [0]) for s in ("train", "test")}
    data = load(write(tmp_path / "tiny", splits))
    assert data.input_shape == (5, 4, channels)
    np.testing.assert_array_equal(data.train.x[0], source[..., :channels])


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_are_refused(tmp_path, kind, channels):
    """Pillow would cut them to 8 bits without a word."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 4, 5, 16, kind, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(range(4 * channels * 2)) for _ in range(5))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b""))
    deep = {"bytes": b"\x89PNG\r\n\x1a\n" + b"".join(parts), "path": None}
    folder = write(tmp_path / "deep", {"train": rows([deep], [0]), "test": rows([deep], [0])})
    with pytest.raises(ValueError, match=r"train row 0: expected 8 bits per channel, got mode \w+ with 16"):
        load(folder)


def test_palette_with_transparency_keeps_its_colours(tmp_path):
    image = PIL.Image.fromarray(pixels(1, channels=3)[0]).quantize(8)
    content = io.BytesIO()
    image.save(content, "PNG", transparency=bytes([0, 128, 255]))
    splits = {s: rows([{"bytes": content.getvalue(), "path": None}], [0]) for s in ("train", "test")}
    data = load(write(tmp_path / "tiny", splits))
    np.testing.assert_array_equal(data.train.x[0], np.asarray(image.convert("RGB")))


def test_turned_images_are_turned(tmp_path):
    image = PIL.Image.fromarray(pixels(1)[0])
    exif = image.getexif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    content = io.BytesIO()
    image.save(content, "PNG", exif=exif)
    splits = {s: rows([{"bytes": content.getvalue(), "path": None}], [0]) for s in ("train", "test")}
    data = load(write(tmp_path / "tiny", splits))
    assert data.input_shape == (4, 5, 1)
    np.testing.assert_array_equal(data.train.x[0, ..., 0], np.rot90(np.asarray(image), -1))


def test_folders_of_image_files(tmp_path):
    x = pixels(8)
    for i, image in enumerate(x):
        path = tmp_path / "pets" / ("train" if i < 6 else "test") / ("cat" if i % 2 else "dog") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image)["bytes"])
    data = load(tmp_path / "pets")
    assert data.classes == ["cat", "dog"] and (len(data.train), len(data.test)) == (6, 2)
    assert {i.tobytes() for i in data.train.x} == {i.tobytes() for i in x[:6]}


@pytest.mark.parametrize("string", ["string", "large_string"])
def test_text(tmp_path, string):
    features = {"text": datasets.Value(string), "label": LABEL}
    data = load(write_texts(tmp_path / "tiny", features))
    assert (data.kind, data.vocabulary, data.input_shape) == ("text", ["blue", "green", "red"], (3,))
    assert scipy.sparse.issparse(data.train.x) and data.train.x.format == "csr" and data.train.x.dtype == np.float32
    np.testing.assert_array_equal(data.train.x.toarray(), [[0, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]])
    np.testing.assert_array_equal(data.test.x.toarray(), [[0, 0, 1], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(data.test.y, [0, 1, 2])


def test_vocabulary_is_the_most_frequent_words_ties_in_alphabetical_order(tmp_path, monkeypatch):
    monkeypatch.setattr("scratchnet.data.text.WORDS", 2)
    data = load(write_texts(tmp_path / "tiny"))  # green and red occur in 3 texts, blue in 2; counts of words would tie
    assert data.vocabulary == ["green", "red"]
    monkeypatch.setattr("scratchnet.data.text.WORDS", 1)
    again = load(write_texts(tmp_path / "other"))
    assert again.vocabulary == ["green"]
    assert again.fingerprint != data.fingerprint


def test_columns_are_found_by_type_not_by_name(tmp_path):
    features = {"label": datasets.Value("int32"), "note": datasets.Value("string"), "x": datasets.Image(), "y": LABEL}
    x = pixels(3)
    columns = {"label": [9, 9, 9], "note": ["a", "b", "c"], "x": [png(i) for i in x], "y": [2, 1, 0]}
    data = load(write(tmp_path / "tiny", {"train": columns, "test": columns}, features))
    np.testing.assert_array_equal(data.train.x[..., 0], x)
    np.testing.assert_array_equal(data.train.y, [2, 1, 0])
    features = {"label": datasets.Value("string"), "text": LABEL}
    columns = {"label": WORDS, "text": [0, 1, 2, 0]}
    assert load(write(tmp_path / "text", {"train": columns, "test": columns}, features)).kind == "text"


def test_extra_splits_are_ignored(tmp_path):
    extra = {"unsupervised": {"text": ["red"], "label": [-1]}, "validation": {"text": [None], "label": [0]}}
    data = load(write_texts(tmp_path / "tiny", **extra))
    assert (len(data.train), len(data.test)) == (4, 3)


def test_validation_serves_as_test_with_a_warning_each_time(tmp_path):
    good = rows([png(i) for i in pixels(2)], [0, 1])
    folder = write(tmp_path / "tiny", {"train": good, "validation": rows([png(pixels(1)[0])], [2])})
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="no test split: validation is used as test"):
            data = load(folder)
        np.testing.assert_array_equal(data.test.y, [2])


def test_digits():
    data = load("digits")
    assert (data.name, data.kind, data.input_shape) == ("digits", "image", (8, 8, 1))
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.classes == list("0123456789")
    assert data.train.x.dtype == np.uint8 and data.train.x.max() == 255
    both = np.concatenate([data.train.x, data.test.x])[..., 0]
    labels = np.concatenate([data.train.y, data.test.y])
    from sklearn.datasets import load_digits

    source = load_digits()
    grey = np.floor(source.images * 255 / 16 + 0.5).astype(np.uint8)
    expected = sorted(i.tobytes() + bytes([t]) for i, t in zip(grey, source.target.tolist()))
    assert sorted(i.tobytes() + bytes([t]) for i, t in zip(both, labels.tolist())) == expected
    share = np.bincount(data.test.y) / np.bincount(labels)
    assert np.abs(share - 360 / 1797).max() <= 0.01


# --- what is refused -------------------------------------------------------------------------------------------------

GOOD = rows([png(i) for i in pixels(3)], [0, 1, 2])


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (rows([png(i) for i in pixels(2)] + [png(pixels(1, 6, 7)[0])], [0, 1, 2]),
         r"train row 2: expected 4 x 5 pixels, as .*train row 0 has, got 7 x 6"),
        (rows(GOOD["image"], [0, -1, 2]), r"train row 1: expected a label from 0 to 2, got -1"),
        (rows(GOOD["image"], [0, 1, None]), r"train row 2: expected a label from 0 to 2, got None"),
        (rows([png(pixels(1)[0]), None], [0, 1]), r"train row 1: expected an image, got none"),
        (rows([png(pixels(1)[0]), {"bytes": b"no image", "path": None}], [0, 1]), r"train row 1: .* Pillow can open"),
        (rows([png(np.zeros((5, 4), np.uint16))], [0]), r"train row 0: expected 8 bits per channel, got mode I;16"),
    ],
    ids=["sizes", "label -1", "label None", "image None", "image damaged", "16 bits"],
)  # fmt: skip
def test_rows_that_can_not_be_used(tmp_path, train, message):
    folder = write(tmp_path / "tiny", {"train": train, "test": GOOD})
    with pytest.raises(ValueError, match=message):
        load(folder)
    with pytest.raises(ValueError, match=message):  # nothing half-made is taken for a dataset
        load(folder)


def test_an_empty_split(tmp_path):
    folder = write(tmp_path / "tiny", {"train": GOOD, "test": rows([], [])})
    with pytest.raises(DataError, match=r"test.* no data"):  # `datasets` refuses it
        load(folder)
    features = datasets.Features(IMAGES)
    found = {s: datasets.Dataset.from_dict(c, features=features) for s, c in (("train", rows([], [])), ("test", GOOD))}
    with pytest.raises(ValueError, match="tiny: expected rows in split train, got none"):
        hub.describe(found, "tiny")


def test_sizes_must_agree_between_splits(tmp_path):
    folder = write(tmp_path / "tiny", {"train": GOOD, "test": rows([png(pixels(1, 4, 5)[0])], [0])})
    with pytest.raises(ValueError, match=r"test row 0: expected 4 x 5 pixels, as .*train row 0 has, got 5 x 4"):
        load(folder)


def test_a_truncated_image_names_its_row(tmp_path):
    whole = png(pixels(1, 40, 40)[0])
    cut = {"bytes": whole["bytes"][: len(whole["bytes"]) // 2], "path": None}
    folder = write(tmp_path / "tiny", {"train": rows([whole, cut], [0, 1]), "test": rows([whole], [0])})
    with pytest.raises(ValueError, match=r"train row 1: expected an image that Pillow can decode, got"):
        load(folder)


def test_texts_that_can_not_be_used(tmp_path):
    folder = write_texts(tmp_path / "none", test={"text": ["red", None], "label": [0, 1]})
    with pytest.raises(ValueError, match=r"test row 1: expected a text, got none"):
        load(folder)
    folder = write_texts(tmp_path / "silent", train={"text": ["", "?!"], "label": [0, 1]})
    with pytest.raises(ValueError, match=r"expected texts with words in train"):
        load(folder)


@pytest.mark.parametrize(
    ("features", "shown"),
    [
        ({"image": datasets.Image(), "label": datasets.Value("int64")}, r"image: Image, label: int64"),
        ({"image": datasets.Image(), "fine": LABEL, "coarse": LABEL}, r"image: Image, fine: ClassLabel, coarse: Cl"),
        ({"a": datasets.Image(), "b": datasets.Image(), "label": LABEL}, r"a: Image, b: Image, label: ClassLabel"),
        ({"a": datasets.Value("string"), "b": datasets.Value("string"), "label": LABEL}, r"a: string, b: string"),
        ({"size": datasets.Value("float32"), "label": LABEL}, r"size: float32, label: ClassLabel"),
    ],
)
def test_columns_that_leave_no_choice_or_several(features, shown):
    with pytest.raises(ValueError, match=rf"one column of type Image .* one of type ClassLabel, got {shown}"):
        hub.find_columns(datasets.Features(features), "tiny")


def test_a_missing_split(tmp_path):
    with pytest.raises(ValueError, match=r"expected splits train and test \(or validation\), got train$"):
        load(write(tmp_path / "no_test", {"train": GOOD}))
    with pytest.raises(ValueError, match=r"expected splits train and test \(or validation\), got test$"):
        load(write(tmp_path / "no_train", {"test": GOOD}))


def test_a_folder_that_is_no_dataset(tmp_path):
    with pytest.raises(DataError, match=r"expected a dataset in the Hub's layout in .*, got \w+") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


# --- names, mirrors, the Hub -----------------------------------------------------------------------------------------


def test_unknown_names():
    with pytest.raises(ValueError, match=r"got 'minst'; did you mean 'mnist'\?; other datasets: an id on the Hub"):
        load("minst")
    for other in (None, 5, ["mnist"]):
        with pytest.raises(TypeError, match="load: name: expected a name such as 'mnist' or a folder, got "):
            load(other)
    for name in ("../x", "a/b/c", "/no/such/folder", Path("/no/such/folder"), "a/", ""):
        with pytest.raises(ValueError, match=r"load: name: expected one of cifar10, digits"):
            load(name)


def test_a_mirror_by_argument_or_environment_and_the_argument_wins(tmp_path, monkeypatch):
    write_images(tmp_path / "one" / "me" / "pets", train=3)
    write_images(tmp_path / "two" / "me" / "pets", train=5)
    assert len(load("me/pets", data_dir=tmp_path / "one").train) == 3
    monkeypatch.setenv("SCRATCHNET_DATA", str(tmp_path / "two"))
    assert len(load("me/pets").train) == 5
    assert len(load("me/pets", data_dir=tmp_path / "one").train) == 3
    monkeypatch.setenv("SCRATCHNET_DATA", "")  # as good as unset
    with pytest.raises(DataError, match="none was named"):
        load("me/pets")


def test_a_mirror_that_is_no_folder(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"data_dir: expected the folder of a local mirror, got '.*gone'"):
        load("mnist", data_dir=tmp_path / "gone")
    monkeypatch.setenv("SCRATCHNET_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"SCRATCHNET_DATA: expected the folder"):
        load("mnist")


def test_short_names_win_over_folders_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "digits")
    assert load("digits").input_shape == (8, 8, 1)
    assert load("./digits").input_shape == (5, 4, 1)


def test_no_network_is_one_line_within_seconds(tmp_path):
    began = time.perf_counter()
    with pytest.raises(DataError) as caught:
        load("mnist", data_dir=tmp_path)
    assert time.perf_counter() - began <= 5
    line = str(caught.value)
    assert "\n" not in line
    for part in (
        "ylecun/mnist",
        str(tmp_path / "ylecun/mnist"),
        "Hub",
        "OfflineModeIsEnabled",
        "--data-dir",
        "connect",
    ):
        assert part in line, part


def test_an_unreachable_hub_leaves_the_offline_switches_as_they_were(monkeypatch):
    from huggingface_hub import constants

    def fail(identity):
        raise TimeoutError("no answer\nsecond line")

    seen = []

    def look(*args, **kwargs):
        seen.append((datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE))
        raise ConnectionError("nothing kept")

    monkeypatch.setattr(hub, "newest_revision", fail)
    monkeypatch.setattr(datasets, "load_dataset", look)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(DataError, match=r"Hub \(TimeoutError: no answer\); connect"):
        load("me/pets")
    assert seen == [(True, True)]
    assert (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE) == (False, False)


def test_the_hub_is_asked_once_and_its_revision_pinned(tmp_path, monkeypatch):
    folder, x, _ = write_images(tmp_path / "there")
    original, asked = datasets.load_dataset, []

    def from_hub(identity, revision=None):
        asked.append((identity, revision))
        return original(str(folder), cache_dir=str(tmp_path / "hf"))

    monkeypatch.setattr(hub, "newest_revision", lambda identity: "a" * 40)
    monkeypatch.setattr(datasets, "load_dataset", from_hub)
    for _ in range(2):
        data = load("me/pets")
        assert data.revision == "a" * 40
        np.testing.assert_array_equal(data.train.x[..., 0], x)
    assert asked == [("me/pets", "a" * 40)]


def test_repositories_of_nearly_one_name_are_two(monkeypatch):
    monkeypatch.setattr(loading, "_mirror", lambda data_dir: None)
    names = ["a/b--c", "a--b/c", f"alice/{'x' * 60}", f"bob/{'x' * 60}"]
    assert len({loading._find(name, None)[1] for name in names}) == 4


def test_the_cache_may_lie_among_files_of_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCHNET_CACHE", str(tmp_path))
    for name in ("data/reading-list", "data/digits"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_text("mine")
        os.utime(tmp_path / name, (0, 0))
    load("digits")
    for name in ("data/reading-list", "data/digits"):
        assert [(p.name, p.read_text()) for p in (tmp_path / name).iterdir()] == [("manifest.json", "mine")]


def test_a_missing_package_says_how_to_get_it(tmp_path, monkeypatch):
    folder, _, _ = write_images(tmp_path / "tiny")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r'needs the package datasets: pip install "scratchnet\[data\]"'):
        load(folder)


def test_reading_leaves_nothing_behind_and_bars_as_they_were(tmp_path, empty_cache, capfd):
    folder, _, _ = write_images(tmp_path / "tiny")
    for enabled in (True, False):
        (datasets.enable_progress_bars if enabled else datasets.disable_progress_bars)()
        shutil.rmtree(empty_cache, ignore_errors=True)
        capfd.readouterr()
        load(folder)
        assert capfd.readouterr().err == ""
        assert datasets.utils.logging.is_progress_bar_enabled() is enabled
        assert [p.name.startswith("reading-") for p in empty_cache.iterdir()] == [False]
    datasets.enable_progress_bars()


def test_importing_is_light():
    heavy = ("datasets", "sklearn", "pandas", "pyarrow", "PIL", "huggingface_hub")
    code = f"import sys, scratchnet.data; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- the decoded copy ------------------------------------------------------------------------------------------------


def test_the_second_load_decodes_nothing(tmp_path, monkeypatch):
    folder, x, _ = write_images(tmp_path / "tiny")
    calls = decodes(monkeypatch)
    first, second = load(folder), load(folder)
    assert len(calls) == 1
    np.testing.assert_array_equal(second.train.x[..., 0], x)
    assert second.fingerprint == first.fingerprint and second.digests == first.digests


def test_a_changed_file_is_decoded_again(tmp_path, monkeypatch):
    folder, _, _ = write_images(tmp_path / "tiny")
    calls = decodes(monkeypatch)
    before = load(folder)
    write_images(folder, train=9)
    after = load(folder)
    assert len(calls) == 2 and len(after.train) == 9 and after.fingerprint != before.fingerprint


def test_the_key_of_a_folder_sees_every_change_but_hidden_files(tmp_path):
    folder, _, _ = write_images(tmp_path / "tiny")
    keys = [loading.fingerprint_directory(folder)]
    (folder / ".git").mkdir()
    (folder / ".git" / "x").write_text("hidden")
    assert loading.fingerprint_directory(folder) == keys[0]
    (folder / "data" / "more.txt").write_text("more")
    keys.append(loading.fingerprint_directory(folder))
    os.utime(folder / "README.md", ns=(1, 1))
    keys.append(loading.fingerprint_directory(folder))
    (folder / "data" / "more.txt").rename(folder / "data" / "moved.txt")
    keys.append(loading.fingerprint_directory(folder))
    (folder / "data" / "moved.txt").write_text("longer now")
    keys.append(loading.fingerprint_directory(folder))
    twin = tmp_path / "twin"
    shutil.copytree(folder, twin)  # files of the same size and time
    keys.append(loading.fingerprint_directory(twin))
    changed = folder / "data" / "moved.txt"
    before = changed.stat()
    changed.write_text("longer won")
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    keys.append(loading.fingerprint_directory(folder))
    assert len(set(keys)) == 7


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    folder, _, _ = write_images(tmp_path / "tiny")
    shutil.copytree(folder, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, ns=(1, 1))
    assert load(folder).fingerprint == load(tmp_path / "copy").fingerprint
    other = write(tmp_path / "other", {"train": GOOD, "test": GOOD})
    turned = {name: column[::-1] for name, column in GOOD.items()}
    reverse = write(tmp_path / "reverse", {"train": turned, "test": GOOD})
    assert load(other).fingerprint != load(reverse).fingerprint  # another order is other data to a resumed run
    assert load(other).digests == load(reverse).digests


def damage(path, how):
    if how == "absent":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif how == "long":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        content = bytearray(path.read_bytes())
        content[:16] = bytes(16)
        path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["absent", "empty", "cut", "long", "header"])
@pytest.mark.parametrize("file", ["train_x.npy", "test_y.npy", "manifest.json"])
def test_a_damaged_copy_is_made_again(tmp_path, empty_cache, monkeypatch, file, how):
    folder, x, _ = write_images(tmp_path / "tiny")
    load(folder)
    damage(next(empty_cache.glob(f"*/{file}")), how)
    calls = decodes(monkeypatch)
    again = load(folder)
    assert len(calls) == 1
    np.testing.assert_array_equal(again.train.x[..., 0], x)
    assert len(load(folder).train) == 12 and len(calls) == 1


@pytest.mark.parametrize("content", ["null", "[]", "{}", '{"format": 0}', "not json"])
def test_a_foreign_manifest_is_replaced(tmp_path, empty_cache, content):
    folder, x, _ = write_images(tmp_path / "tiny")
    load(folder)
    next(empty_cache.glob("*/manifest.json")).write_text(content)
    np.testing.assert_array_equal(load(folder).train.x[..., 0], x)


def test_a_copy_of_another_format_or_with_wrong_content_is_replaced(tmp_path, empty_cache, monkeypatch):
    folder = write_texts(tmp_path / "tiny")
    load(folder)
    calls = decodes(monkeypatch)
    manifest = next(empty_cache.glob("*/manifest.json"))
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": store.FORMAT + 1}))
    load(folder)
    assert len(calls) == 1
    for name, value in (("train_y", 7), ("train_indices", 7), ("test_indptr", 7)):
        path = next(empty_cache.glob(f"*/{name}.npy"))
        array = np.load(path)
        array[:] = value
        np.save(path, array)
        assert load(folder).vocabulary == ["blue", "green", "red"]
    assert len(calls) == 4


@pytest.mark.parametrize("file", ["train_x", "train_y", "test_x", "test_y"])
def test_every_changed_byte_of_a_copy_is_noticed(tmp_path, empty_cache, file):
    folder, _, _ = write_images(tmp_path / "tiny")
    whole = load(folder)
    path = next(empty_cache.glob(f"*/{file}.npy"))
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in (10, *rng.integers(0, len(good), 20)):  # a backslash at 10 is no header that Python can read
        damaged = bytearray(good)
        damaged[place] = ord("\\") if place == 10 else damaged[place] ^ int(rng.integers(1, 256))
        path.write_bytes(damaged)
        again = load(folder)
        for split in ("train", "test"):
            np.testing.assert_array_equal(getattr(again, split).x, getattr(whole, split).x)
            np.testing.assert_array_equal(getattr(again, split).y, getattr(whole, split).y)


def test_many_processes_may_load_at_once(tmp_path):
    code = "import sys; from scratchnet.data import load; print(load('digits').train.x.sum())"
    environment = dict(os.environ, SCRATCHNET_CACHE=str(tmp_path / "cold"), PYTHONPATH=processes.import_path())
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(6)
    ]
    ends = [process.communicate(timeout=120) for process in started]
    assert len({out for out, _ in ends}) == 1 and not any(err for _, err in ends), ends


def test_nothing_unfinished_stays(tmp_path, empty_cache):
    folder, _, _ = write_images(tmp_path / "tiny")
    load(folder)
    inside = next(empty_cache.glob("*/manifest.json")).parent
    assert not list(inside.glob(".*"))
    old, young = inside / ".manifest.json.aa.tmp", inside / ".manifest.json.bb.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    (inside / "manifest.json").unlink()
    load(folder)
    assert not old.exists() and young.exists()


def test_an_array_appears_whole_or_not_at_all(tmp_path):
    def blocks():
        yield np.zeros((2, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_array(tmp_path, "x", np.uint8, (4, 3), blocks())
    with pytest.raises(ValueError, match=r"x: expected 12 bytes for shape \(4, 3\), got 6"):
        store.write_array(tmp_path, "x", np.uint8, (4, 3), [np.zeros((2, 3), np.uint8)])
    assert list(tmp_path.iterdir()) == []
    entry = store.write_array(tmp_path, "x", np.int32, (3,), [np.arange(2), np.array([7])])
    np.testing.assert_array_equal(store.read_array(tmp_path, "x", entry), [0, 1, 7])


def test_without_a_cache_folder_data_still_loads(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    code = "from scratchnet.data import load; a, b = load('digits'), load('digits'); print(a.train.x.filename)"
    environment = {**os.environ, "SCRATCHNET_CACHE": str(blocked)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.count("decoded datasets are kept for this process only") == 1
    assert done.stdout.strip().endswith("train_x.npy")
    assert not os.path.exists(done.stdout.strip())


# --- the known sets --------------------------------------------------------------------------------------------------


def test_the_digest_knows_no_order_but_every_change():
    content, labels = [b"one", b"two", b"two"], np.array([0, 1, 1])
    digest = known.row_digest(content, labels)
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert known.row_digest(content[::-1], labels[::-1]) == digest
    others = [
        known.row_digest([b"one", b"two", b"twO"], labels),
        known.row_digest(content, np.array([0, 1, 0])),
        known.row_digest(content, np.array([1, 0, 1])),  # the same rows, the same labels, otherwise paired
        known.row_digest(content[:2], labels[:2]),
        known.row_digest([b"one", b"one", b"two"], np.array([0, 0, 1])),
        known.row_digest([], labels),
    ]
    assert len({digest, *others}) == 7
    expected = int.from_bytes(hashlib.sha256((3).to_bytes(8, "little") + b"row").digest(), "little")
    assert int(known.row_digest([b"row"], np.array([3])), 16) == expected


def test_counts_of_a_known_set_must_fit(tmp_path, monkeypatch, empty_cache):
    write_images(tmp_path / "ylecun" / "mnist")
    with pytest.raises(ValueError, match=r"ylecun/mnist: expected 10 classes, got 3; .*replace it"):
        load("mnist", data_dir=tmp_path)
    table = {"ylecun/mnist": known.Known({"train": [4, 4, 4], "test": [2, 2, 3]}, {})}
    monkeypatch.setattr(known, "KNOWN", table)
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"expected 7 rows in test, of each class \[2, 2, 3\], got 6, of each .*2\]"
        ):
            load("mnist", data_dir=tmp_path)
    assert not list(empty_cache.glob("*/manifest.json"))
    table["ylecun/mnist"].counts["test"] = [2, 2, 2]
    assert load("mnist", data_dir=tmp_path).name == "ylecun/mnist"


def test_other_rows_in_a_known_set_are_a_warning_at_every_load(tmp_path, monkeypatch):
    folder, x, _ = write_images(tmp_path / "ylecun" / "mnist")
    digests = load(folder).digests
    assert digests["train"] == known.row_digest([i.tobytes() for i in x], np.arange(12) % 3)
    counts = {"train": [4, 4, 4], "test": [2, 2, 2]}
    monkeypatch.setattr(known, "KNOWN", {"ylecun/mnist": known.Known(counts, dict(digests))})
    assert load("mnist", data_dir=tmp_path).digests == digests  # no warning: they are errors here
    monkeypatch.setattr(known, "KNOWN", {"ylecun/mnist": known.Known(counts, {"train": "0" * 64})})
    for _ in range(2):
        with pytest.warns(
            RuntimeWarning, match=r"ROWS OF train ARE NOT .*expected digest 0{64}, got [0-9a-f]{64}"
        ) as seen:
            load("mnist", data_dir=tmp_path)
        assert len(seen) == 1 and seen[0].filename == __file__


def test_the_table_covers_the_short_names():
    assert set(known.KNOWN) == set(loading.SHORT_NAMES.values())
    for entry in known.KNOWN.values():
        assert entry.counts.keys() == {"train", "test"}
        assert entry.digests.keys() <= {"train", "test"}
    assert known.KNOWN["uoft-cs/cifar10"].digests.keys() == {"train"}


def test_the_fingerprint_holds_names_and_shapes(tmp_path):
    def print_of(kind, classes, vocabulary, shape):
        entry = store.write_array(tmp_path, "x", np.uint8, shape, [np.zeros(6)])
        return store.Manifest(kind, classes, {}, {}, {"x": entry}, vocabulary).fingerprint()

    contents = [("image", ["a"], None, (2, 3)), ("text", ["a"], None, (2, 3)), ("image", ["b"], None, (2, 3))]
    contents += [("image", ["a"], ["red"], (2, 3)), ("image", ["a"], None, (3, 2))]
    assert len({print_of(*content) for content in contents}) == 5


def test_only_what_a_killed_process_left_is_removed(tmp_path):
    for name in ("reading-old", "reading-young", "tiny"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "reading-old", (0, time.time() - store.ABANDONED - 60))
    os.utime(tmp_path / "reading-young", (0, time.time() - store.ABANDONED + 60))
    (tmp_path / "tiny" / store.MANIFEST).write_text("{}")
    store.prepare(tmp_path / "tiny")
    assert {p.name for p in tmp_path.iterdir()} == {"reading-young", "tiny"}
    assert not list((tmp_path / "tiny").iterdir())


def test_a_label_beyond_the_classes_names_its_row():
    rows = datasets.Dataset.from_dict({"y": [0, 3]})
    with pytest.raises(ValueError, match=r"train row 1: expected a label from 0 to 2, got 3"):
        hub.Source("tiny", "image", {"train": rows}, "x", "y", ["a", "b", "c"]).labels("train")


def test_what_another_process_has_decoded_by_now_is_not_decoded_again():
    load("digits")
    name, key, _ = loading._find("digits", None)
    loading._make(store.root() / key, name, lambda folder: pytest.fail("decoded twice"))
