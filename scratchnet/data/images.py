"""Images: decoded once, 8 bits per channel, all of one size.

    stored as            becomes
    1, L, LA             grey, (H, W, 1)             black and white 0 and 255; alpha dropped
    RGB, RGBA, P, CMYK   colour, (H, W, 3)           and every other mode that Pillow converts to RGB; alpha dropped
    I, I;16, F           refused: deeper than 8 bits, and which 8 to keep is not ours to choose; so are the 16-bit
                         colours and the grey with alpha that Pillow would cut to 8 bits by itself

One coloured image makes the whole dataset coloured. Images that a camera's EXIF tag marks as turned are turned, as the
`datasets` library does.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scratchnet.arrays import Shape
from scratchnet.data import known, store
from scratchnet.data.hub import Source

GREY = ("1", "L", "LA")
TOO_DEEP = ("I", "F")  # how the names of these modes begin
BLOCK = 256  # images decoded before they are written


def write_images(folder: Path, source: Source, manifest: store.Manifest, labels: dict[str, np.ndarray]) -> None:
    """Decode every split into `<split>_x.npy`, (N, H, W, C) uint8, and enter it and its digest into the manifest.

    Raises:
        ValueError: an image is missing, damaged, too deep, or of another size than the first; says which row.
    """
    shape = common_shape(source)
    for split, y in labels.items():
        shown = f"{source.name}: {split}"
        blocks = _decode(source.cells(split), shape, shown)
        name = f"{split}_x"
        manifest.files[name] = store.write_array(folder, name, np.uint8, (len(y), *shape), blocks)
        x = store.read_array(folder, name, manifest.files[name], memory_map=True)
        manifest.digests[split] = known.row_digest((image.tobytes() for image in x), y)


def common_shape(source: Source) -> Shape:
    """(H, W, C) of all images, read from their headers."""
    size, channels = None, 1
    for split in source.splits:
        for row, cell in enumerate(source.cells(split)):
            where = _place(f"{source.name}: {split}", row, cell)
            image = open_image(cell, where)
            if size is None:
                size, first = image.size, where
            if image.size != size:
                raise ValueError(
                    f"{where}: expected {size[0]} x {size[1]} pixels, as {first} has, got {image.size[0]} x "
                    f"{image.size[1]}; resize or crop the images to one size"
                )
            if image.mode not in GREY:
                channels = 3
    assert size is not None  # no split is empty
    return size[1], size[0], channels


def open_image(cell: Any, where: str) -> Any:
    """Open what `datasets` stores for an image, a dict of bytes and path, as a Pillow image (decoded on first use)."""
    from PIL import Image, ImageOps

    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        raise ValueError(f"{where}: expected an image, got none; remove the row")
    try:
        content = Path(cell["path"]).read_bytes() if cell["bytes"] is None else cell["bytes"]
        image = Image.open(io.BytesIO(content))
        deep = image.mode.startswith(TOO_DEEP) or any(";16" in str(tile[-1]) for tile in image.tile)
        turned = ImageOps.exif_transpose(image) if "exif" in image.info else image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{where}: expected an image that Pillow can open, got: {_reason(error)}") from error
    if deep:
        mode = image.mode if image.mode.startswith(TOO_DEEP) else f"{image.mode} with 16"
        raise ValueError(f"{where}: expected 8 bits per channel, got mode {mode}; convert the images to 8 bits")
    return turned


def _place(shown: str, row: int, cell: Any) -> str:
    """How messages call an image: by its row, and by its file where it has one."""
    path = cell["path"] if cell else None
    return f"{shown} row {row} ({path})" if path else f"{shown} row {row}"


def _reason(error: BaseException) -> str:
    """What Pillow says, less the place in memory that it read from."""
    return "unknown content" if "cannot identify image file" in str(error) else str(error)


def _decode(cells: Iterable[Any], shape: Shape, shown: str) -> Iterator[np.ndarray]:
    """Yield blocks of (BLOCK or fewer, H, W, C) uint8."""
    block = np.empty((BLOCK, *shape), np.uint8)
    filled = 0
    for row, cell in enumerate(cells):
        where = _place(shown, row, cell)
        block[filled] = _pixels(open_image(cell, where), shape, where)
        filled += 1
        if filled == BLOCK:
            yield block
            filled = 0
    yield block[:filled]


def _pixels(image: Any, shape: Shape, where: str) -> np.ndarray:
    mode = "L" if shape[2] == 1 else "RGB"
    try:
        if image.mode in ("P", "PA"):  # straight to RGB, Pillow warns of palettes that hold transparency
            image = image.convert("RGBA")
        return np.asarray(image if image.mode == mode else image.convert(mode)).reshape(shape)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{where}: expected an image that Pillow can decode, got: {error}") from error
