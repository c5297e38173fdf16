"""Vectors of the processor: what it has, and how to write its instructions where a compiled loop is not enough.

Numba hands loops to LLVM, which finds the vectors by itself. The register tile (tile.py), pooling and Winograd's
transforms must choose them, so they are written in LLVM's own language. Only what LLVM offers on every processor is
used here: where one lacks an instruction (a masked store) LLVM makes it of others. Only a fused multiply-add would
become a call of C's, so there `multiply_add` multiplies and adds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core.cgutils import get_or_insert_function
from numba.core.registry import cpu_target


class VectorUnit(NamedTuple):
    """The vectors of a processor: bytes in one, how many there are, whether a * b + c is one instruction."""

    name: str
    bytes: int
    registers: int
    fused: bool


PROBE = """
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
define <16 x float> @probe(<16 x float> %a, <16 x float> %b, <16 x float> %c) {
  %sum = call <16 x float> @llvm.fma.v16f32(<16 x float> %a, <16 x float> %b, <16 x float> %c)
  ret <16 x float> %sum
}"""


@functools.cache
def vector_unit() -> VectorUnit:
    """Ask LLVM: compile one multiply-add of 16 floats as numba would, and look at the instructions it takes."""
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    return _read_assembly(machine.emit_assembly(llvm.parse_assembly(PROBE)))


def _read_assembly(text: str) -> VectorUnit:
    """The vector unit whose registers the probe uses; a call of C's fmaf means that nothing is fused."""
    fused = "fmaf" not in text
    if "zmm" in text:
        return VectorUnit("AVX-512", 64, 32, fused)
    if "ymm" in text:
        return VectorUnit("AVX2" if fused else "AVX", 32, 16, fused)
    if "xmm" in text:
        return VectorUnit("SSE2", 16, 16, fused)
    return VectorUnit("128-bit vectors", 16, 32, fused)  # NEON, and what we do not know


I8, I32, I64, VOID = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.VoidType()


class Vectors:
    """Writes vector instructions for one element type. Addresses are i64 values, and steps count elements."""

    def __init__(self, builder: ir.IRBuilder, element: ir.Type) -> None:
        self.builder, self.element = builder, element
        self.size = 8 if isinstance(element, ir.DoubleType) else 4
        self.lanes = vector_unit().bytes // self.size
        self.type, self.indices = ir.VectorType(element, self.lanes), ir.VectorType(I32, self.lanes)
        self.suffix = f"v{self.lanes}f{8 * self.size}"

    def call(self, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
        """Call one of LLVM's own functions."""
        kind = ir.FunctionType(result, [a.type for a in args])
        return self.builder.call(get_or_insert_function(self.builder.module, kind, name), args)

    def at(self, address: ir.Value, elements: ir.Value) -> ir.Value:
        """The address so many elements further."""
        return self.builder.add(address, self.builder.mul(elements, I64(self.size)))

    def load(self, address: ir.Value) -> ir.Value:
        """One vector."""
        return self.builder.load(self.builder.inttoptr(address, self.type.as_pointer()), align=self.size)

    def store(self, vector: ir.Value, address: ir.Value) -> None:
        """One vector."""
        self.builder.store(vector, self.builder.inttoptr(address, self.type.as_pointer()), align=self.size)

    def spread(self, scalar: ir.Value, kind: ir.VectorType) -> ir.Value:
        """A scalar in every lane."""
        nothing = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(nothing, scalar, I32(0))
        return self.builder.shuffle_vector(first, nothing, ir.Constant(self.indices, None))

    def load_spread(self, address: ir.Value) -> ir.Value:
        """One element in every lane."""
        scalar = self.builder.load(self.builder.inttoptr(address, self.element.as_pointer()))
        return self.spread(scalar, self.type)

    def mask(self, count: ir.Value) -> ir.Value:
        """True in the first `count` lanes: in none if that is negative, in all if it is more than there are."""
        numbers = ir.Constant(self.indices, list(range(self.lanes)))
        return self.builder.icmp_signed("<", numbers, self.spread(self.builder.trunc(count, I32), self.indices))

    def load_masked(self, address: ir.Value, mask: ir.Value) -> ir.Value:
        """One vector, 0 where the mask is False: nothing is read there."""
        pointer = self.builder.inttoptr(address, self.type.as_pointer())
        zeros = ir.Constant(self.type, None)
        return self.call(f"llvm.masked.load.{self.suffix}.p0", self.type, pointer, I32(self.size), mask, zeros)

    def store_masked(self, vector: ir.Value, address: ir.Value, mask: ir.Value) -> None:
        """The lanes of a vector where the mask is True."""
        pointer = self.builder.inttoptr(address, self.type.as_pointer())
        self.call(f"llvm.masked.store.{self.suffix}.p0", VOID, vector, pointer, I32(self.size), mask)

    def whole_or_part(self, lanes: ir.Value, emit: Callable[[ir.Value], Any]) -> list[ir.Value]:
        """Emit twice, for the mask of a whole vector and for that of its first `lanes`, and choose.

        Processors without masked instructions take a part lane by lane, and on some that have them a masked store
        takes ten times as long; LLVM sees that the whole needs no mask.

        Returns:
            the values that `emit` returns, if it returns any.
        """
        b, flags = self.builder, ir.VectorType(ir.IntType(1), self.lanes)
        with b.if_else(b.icmp_signed(">=", lanes, I64(self.lanes))) as (whole, part):
            with whole:
                wholes, from_whole = emit(ir.Constant(flags, [1] * self.lanes)) or [], b.block
            with part:
                parts, from_part = emit(self.mask(lanes)) or [], b.block
        chosen = [b.phi(value.type) for value in wholes]
        for phi, *values in zip(chosen, wholes, parts):
            phi.add_incoming(values[0], from_whole)
            phi.add_incoming(values[1], from_part)
        return chosen

    def opaque(self, integer: ir.Value) -> ir.Value:
        """The same integer, of which LLVM does not know how it was computed.

        Of addresses that lie equally far apart it would make a chain of additions, one after the other in each turn of
        a loop; so they stay as many bases with one counter.
        """
        nothing = ir.InlineAsm(ir.FunctionType(I64, [I64]), "", "=r,0")
        return self.builder.call(nothing, [integer])

    def flag(self, integer: ir.Value) -> ir.Value:
        """True in every lane where the integer is not 0."""
        return self.spread(self.builder.icmp_signed("!=", integer, I64(0)), ir.VectorType(ir.IntType(1), self.lanes))

    def number(self, integer: ir.Value) -> ir.Value:
        """A small integer in every lane."""
        return self.spread(self.builder.trunc(integer, I32), self.indices)

    def load_bytes(self, address: ir.Value, mask: ir.Value) -> ir.Value:
        """A byte for each lane, as integers."""
        kind = ir.VectorType(I8, self.lanes)
        pointer = self.builder.inttoptr(address, kind.as_pointer())
        name = f"llvm.masked.load.v{self.lanes}i8.p0"
        return self.builder.zext(self.call(name, kind, pointer, I32(1), mask, ir.Constant(kind, None)), self.indices)

    def store_bytes(self, integers: ir.Value, address: ir.Value, mask: ir.Value) -> None:
        """The lowest byte of each lane's integer where the mask is True."""
        small = self.builder.trunc(integers, ir.VectorType(I8, self.lanes))
        pointer = self.builder.inttoptr(address, small.type.as_pointer())
        self.call(f"llvm.masked.store.v{self.lanes}i8.p0", VOID, small, pointer, I32(1), mask)

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a * b + c."""
        if vector_unit().fused:
            return self.call(f"llvm.fma.{self.suffix}", self.type, a, b, c)
        return self.builder.fadd(self.builder.fmul(a, b), c)

    def prefetch(self, address: ir.Value, write: bool = False, cache: int = 1) -> None:
        """Ask for the line at an address, to be read or written soon; where no memory is, nothing happens.

        Args:
            cache: 1 or 2, the one to bring it to. The second takes more requests before it makes the processor wait.
        """
        pointer = self.builder.inttoptr(address, I8.as_pointer())
        self.call("llvm.prefetch.p0", VOID, pointer, I32(int(write)), I32(4 - cache), I32(1))


def loop(
    b: ir.IRBuilder, count: ir.Value, start: list[ir.Value], body: Callable[..., list[ir.Value]]
) -> list[ir.Value]:
    """`for _ in range(count): state = body(*state)` from `start`; returns the last state."""
    before, inside, after = b.block, b.append_basic_block("loop"), b.append_basic_block("after")
    b.cbranch(b.icmp_signed(">", count, I64(0)), inside, after)
    b.position_at_end(inside)
    left, *state = [b.phi(value.type) for value in (count, *start)]
    then = [b.sub(left, I64(1)), *body(*state)]
    last = b.block  # the body may have loops of its own
    again = b.cbranch(b.icmp_signed(">", then[0], I64(0)), inside, after)
    again.set_metadata("llvm.loop", _not_unrolled(b.module))
    for phi, first, value in zip((left, *state), (count, *start), then):
        phi.add_incoming(first, before)
        phi.add_incoming(value, last)
    b.position_at_end(after)
    end = [b.phi(value.type) for value in start]
    for phi, first, value in zip(end, start, then[1:]):
        phi.add_incoming(first, before)
        phi.add_incoming(value, last)
    return end


def _not_unrolled(module: ir.Module) -> Any:
    """A mark of LLVM's: leave this loop as it is: the tile's body fills the registers already."""
    word = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    mark = ir.MDValue(module, [word], str(len(module.metadata)))
    mark.operands = (mark, word)
    return mark
