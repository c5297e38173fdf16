"""A convolution, ReLU and max pooling, image by image; equations in reference/conv_pool.py.

Each thread has room for the convolution's output of one image, which stays in its L2 cache. Forward fills that, pools
it, and keeps only y and index. Backward fills it with the gradient, dy spread over the cells that won, and uses that up
at once: for the sums of the weight gradient, and for dx of that image. Neither goes to memory and back, which for small
kernels would take longer than the multiplications.

Where fewer multiplications pay, winograd_pool.py does all this another way.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from scratchnet.kernels import max_pool, tile, winograd, winograd_pool
from scratchnet.kernels.conv import (
    COMBINE,
    add_image,
    add_parts,
    collect_row,
    convolve,
    forward_panels,
    input_panels,
    pack_forward,
    pack_input,
    pad_image,
    plan_conv,
    plan_sums,
)
from scratchnet.kernels.jit import kernel, workspace
from scratchnet.kernels.memory import addresses_of, clear
from scratchnet.kernels.windows import Pair


def conv2d_relu_max_pool2d_forward(
    y: np.ndarray,
    index: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    size: Pair,
    stride: Pair,
    padding: Pair,
    pool_size: Pair,
    pool_stride: Pair,
    pool_padding: Pair,
) -> None:
    """y, index = max_pool2d(max(conv2d(x, weight, bias), 0)); see reference.conv2d_relu_max_pool2d_forward."""
    x, weight, bias = (np.ascontiguousarray(array) for array in (x, weight, bias))
    pool = max_pool.plan(size, y, pool_size, pool_stride, pool_padding, rectify=True)
    if winograd.is_faster(size, x, weight, stride):
        return winograd_pool.forward(y, index, x, weight, bias, padding, pool)
    plan = plan_conv(size, x, weight, stride, padding, lanes=weight.shape[3])
    room = plan.buffer + math.prod(size) * plan.units
    space = workspace("conv", plan.slots * room + forward_panels(plan), y.dtype)
    pick, addresses = max_pool.functions(y.dtype).pick, addresses_of(y, index, x, weight, bias)
    _forward.launch(plan.slots > 1, space, plan, pool, room, tile.functions(y.dtype), pick, addresses)


@kernel
def _forward(space, plan, pool, room, functions, pick, addresses):
    """Convolve image n into the slot's room, and pool it into y[n] and index[n]."""
    y, index, x, weight, bias = addresses
    pooled, panels = pool.rows * pool.columns * pool.channels, space.ctypes.data + plan.itemsize * plan.slots * room
    pack_forward(panels, weight, functions, plan)
    for slot in prange(plan.slots):
        clear(space, slot * room, plan.buffer)
        padded = space.ctypes.data + plan.itemsize * slot * room
        output = padded + plan.itemsize * plan.buffer
        for n in range(slot * plan.images // plan.slots, (slot + 1) * plan.images // plan.slots):
            image = pad_image(padded, x, n, functions.pack, plan)
            convolve(output, image, panels, bias, 0, plan.rows, functions, plan)
            for oh in range(pool.rows):
                max_pool.pool_line(pick, pool, y + plan.itemsize * n * pooled, index + n * pooled, output, oh)


def conv2d_relu_max_pool2d_backward(
    dx: np.ndarray,
    dweight: np.ndarray,
    dbias: np.ndarray,
    dy: np.ndarray,
    y: np.ndarray,
    index: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    size: Pair,
    stride: Pair,
    padding: Pair,
    pool_size: Pair,
    pool_stride: Pair,
    pool_padding: Pair,
) -> None:
    """dx, dweight, dbias from dy where y > 0; see reference.conv2d_relu_max_pool2d_backward."""
    dy, y, index, x, weight = (np.ascontiguousarray(array) for array in (dy, y, index, x, weight))
    pool = max_pool.plan(size, y, pool_size, pool_stride, pool_padding, rectify=True)
    if winograd.is_faster(size, x, weight, stride):
        return winograd_pool.backward(dx, dweight, dbias, dy, y, index, x, weight, padding, pool)
    plan = plan_conv(size, x, weight, stride, padding, lanes=weight.shape[3])
    back = plan_conv(size, x, weight, stride, padding, lanes=x.shape[3])
    sums, (panel, panels) = plan_sums(plan), input_panels(back)
    room = plan.buffer + math.prod(size) * plan.units + sums.packed
    space = workspace("conv", sums.parts * sums.part + plan.slots * room + panels, y.dtype)
    functions, spread = tile.functions(y.dtype), max_pool.functions(y.dtype).spread
    addresses = addresses_of(dy, y, index, x, weight, tile.one_and_zeros(y.dtype))
    _backward.launch(
        plan.slots > 1, space, dx.reshape(-1), plan, back, pool, sums, (room, panel), functions, spread, addresses
    )
    dweight[...] = space[: dweight.size].reshape(dweight.shape)
    dbias[...] = space[dweight.size : sums.part]


@kernel
def _backward(space, dx, plan, back, pool, sizes, rooms, functions, spread, addresses):
    """Spread dy[n] over the slot's room, add the gradient of image n to the sums of its part, and write dx[n].

    The parts, which have their own sums and are added up in order, are those of conv2d_backward_weight.
    """
    dy, y, index, x, weight, one = addresses
    (parts, part, _), (room, panel) = sizes, rooms
    size, pooled, row = plan.itemsize, pool.rows * pool.columns * pool.channels, plan.columns * plan.units
    panels = space.ctypes.data + size * (parts * part + plan.slots * room)
    if dx.size > 0:
        pack_input(panels, weight, panel, functions.pack, back)
    for slot in prange(plan.slots):
        start = parts * part + slot * room
        output = start + plan.buffer
        padded, grad = space.ctypes.data + size * start, space.ctypes.data + size * output
        clear(space, start, plan.buffer)
        for q in range(slot * parts // plan.slots, (slot + 1) * parts // plan.slots):
            clear(space, q * part, part)
            for n in range(q * plan.images // parts, (q + 1) * plan.images // parts):
                at = n * pooled
                for h in range(plan.rows):
                    clear(space, output + h * row, row)
                    max_pool.spread_row(spread, pool, grad, dy + size * at, y + size * at, index + at, h)
                image, buffer = pad_image(padded, x, n, functions.pack, plan), grad + size * plan.rows * row
                add_image(space.ctypes.data + size * q * part, image, grad, buffer, one, sizes, functions, plan)
                if dx.size > 0:
                    for h in range(plan.height):
                        collect_row(dx, n, h, grad, panels, panel, functions.multiply, back)
    for block in prange((part + COMBINE - 1) // COMBINE):
        add_parts(space, block, parts, part)
