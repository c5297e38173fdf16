"""Writes tiny datasets as the Hub lays them out: parquet files by split, and a README.md that describes them."""

from __future__ import annotations

import io

import datasets
import numpy as np
import PIL.Image

LABEL = datasets.ClassLabel(names=["cat", "dog", "owl"])
IMAGES = {"image": datasets.Image(), "label": LABEL}
TEXTS = {"text": datasets.Value("string"), "label": LABEL}


def png(pixels, mode=None, form="PNG"):
    """An image file in memory, as `datasets` stores it."""
    image = PIL.Image.fromarray(np.asarray(pixels))
    if mode is not None:
        image = image.convert(mode)
    content = io.BytesIO()
    image.save(content, form)
    return {"bytes": content.getvalue(), "path": None}


def pixels(count, height=5, width=4, channels=None, seed=0):
    """Random uint8 images, (count, height, width) or (count, height, width, channels)."""
    shape = (count, height, width) + ((channels,) if channels else ())
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def rows(images, labels):
    return {"image": images, "label": labels}


def write(folder, splits, features=None):
    """Write `splits`, name -> columns, into `folder`; return it."""
    features = datasets.Features(features or IMAGES)
    configs = []
    for split, columns in splits.items():
        table = datasets.Dataset.from_dict(columns, features=features)
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path)
        configs.append(f"  - split: {split}\n    path: data/{split}-*\n")
    described = "".join(_describe(name, feature) for name, feature in features.items())
    (folder / "README.md").write_text(
        f"---\ndataset_info:\n  config_name: plain\n  features:\n{described}"
        f"configs:\n- config_name: plain\n  data_files:\n{''.join(configs)}  default: true\n---\n# tiny\n"
    )
    return folder


def write_images(folder, train=12, test=6, channels=None):
    """A good little image dataset; returns (folder, train pixels, test pixels)."""
    x, z = pixels(train, channels=channels), pixels(test, channels=channels, seed=1)
    splits = {
        "train": rows([png(image) for image in x], [i % 3 for i in range(train)]),
        "test": rows([png(image) for image in z], [i % 3 for i in range(test)]),
    }
    return write(folder, splits), x, z


def _describe(name, feature):
    if isinstance(feature, datasets.ClassLabel):
        names = "".join(f"          '{i}': '{shown}'\n" for i, shown in enumerate(feature.names))
        return f"  - name: {name}\n    dtype:\n      class_label:\n        names:\n{names}"
    return f"  - name: {name}\n    dtype: {'image' if isinstance(feature, datasets.Image) else feature.dtype}\n"
