"""Sixteen numbers at a time in compiled kernels.

Whether a compiler turns a loop over channels into instructions that work on many numbers depends
on what it can prove about the arrays: as loops the transforms of
`cellseg_engine.nets.winograd_kernels` took twice to three times as long. Here a formula is written
once, in Python, and becomes such instructions; the same formula works on arrays of NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

N_LANES = 16
"""Numbers of a vector; a CPU with shorter ones takes several."""

_VECTOR = ir.VectorType(ir.FloatType(), N_LANES)
_FUSED = ("contract",)
"""A product and a sum may be rounded once."""


class Lanes:
    """A vector of float32 in code that is being written."""

    def __init__(self, builder: Any, value: Any) -> None:
        self._builder = builder
        self.value = value

    def __add__(self, other: Lanes) -> Lanes:
        return Lanes(self._builder, self._builder.fadd(self.value, other.value, flags=_FUSED))

    def __sub__(self, other: Lanes) -> Lanes:
        return Lanes(self._builder, self._builder.fsub(self.value, other.value, flags=_FUSED))

    def __mul__(self, other: Lanes | float) -> Lanes:
        factor = other.value if isinstance(other, Lanes) else _constant(other)
        return Lanes(self._builder, self._builder.fmul(self.value, factor, flags=_FUSED))

    __rmul__ = __mul__

    def rectified(self) -> Lanes:
        """Give 0 for what is negative; what is not a number stays it."""
        zero = _constant(0)
        negative = self._builder.fcmp_ordered("<", self.value, zero)
        return Lanes(self._builder, self._builder.select(negative, zero, self.value))


def on_rows(formula: Callable[..., Sequence[Any]], n_rows: int) -> Any:
    """Compile a formula of several rows that gives several rows.

    Returns
    -------
    A function for kernels, ``f(source, first, step, target, first, step)``: row ``i`` are the
    `N_LANES` numbers from ``first + i * step`` on, counted in the flat array. Arrays are
    C-contiguous float32; nobody checks the places. All is read before anything is written.
    """

    @intrinsic
    def call(typing: Any, source: Any, first: Any, step: Any, target: Any, to: Any, by: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            def at(array: int, n: int) -> Any:
                offset = builder.mul(given[array + 2], ir.Constant(given[array + 2].type, n))
                index = builder.add(given[array + 1], offset)
                return _place(context, builder, signature.args[array], given[array], index)

            rows = [Lanes(builder, builder.load(at(0, n), align=4)) for n in range(n_rows)]
            for n, row in enumerate(formula(*rows)):
                builder.store(row.value, at(3, n), align=4)
            return context.get_dummy_value()

        del typing, first, step, to, by  # numba asks for them by position
        place = types.intp
        return types.void(source, place, place, target, place, place), generate

    return call


def on_three(formula: Callable[..., Any]) -> Any:
    """Compile a formula of three vectors that gives one.

    Returns
    -------
    A function for kernels, ``f(a, i, b, j, c, k, target, n)``, places as of `on_rows`.
    """

    @intrinsic
    def call(typing: Any, a: Any, i: Any, b: Any, j: Any, c: Any, k: Any, to: Any, n: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            places = [
                _place(context, builder, signature.args[n], given[n], given[n + 1])
                for n in range(0, 8, 2)
            ]
            read = [Lanes(builder, builder.load(place, align=4)) for place in places[:3]]
            builder.store(formula(*read).value, places[3], align=4)
            return context.get_dummy_value()

        del typing, i, j, k, n  # numba asks for them by position
        place = types.intp
        return types.void(a, place, b, place, c, place, to, place), generate

    return call


def product_of(n_rows: int, n_vectors: int) -> Any:
    """Compile a product of matrices that keeps its sums in the registers of the CPU.

    Returns
    -------
    A function for kernels, ``f(a, i, row, b, j, c, k, row, depth)``: the product of ``n_rows`` rows
    of ``depth`` numbers of ``a``, ``row`` apart, with ``depth`` rows of ``n_vectors`` vectors of
    ``b``, one behind the other, to rows of ``c``. Places as of `on_rows`.
    """

    @intrinsic
    def call(
        typing: Any, a: Any, i: Any, n: Any, b: Any, j: Any, c: Any, k: Any, m: Any, depth: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            a, i, a_row, b, j, c, k, c_row, depth = given
            kinds, index = signature.args, depth.type

            def times(value: Any, factor: int) -> Any:
                return builder.mul(value, ir.Constant(index, factor))

            def plus(value: Any, n: int) -> Any:
                return builder.add(value, ir.Constant(index, n))

            new: Any = cgutils.alloca_once_value
            sums = [[new(builder, _constant(0)) for _ in range(n_vectors)] for _ in range(n_rows)]
            starts = [builder.add(i, times(a_row, row)) for row in range(n_rows)]
            with cgutils.for_range(builder, depth) as loop:
                first = builder.add(j, times(loop.index, N_LANES * n_vectors))
                places = [plus(first, N_LANES * n) for n in range(n_vectors)]
                read = [
                    builder.load(_place(context, builder, kinds[3], b, place), align=4)
                    for place in places
                ]
                for start, row in zip(starts, sums, strict=True):
                    number = builder.load(
                        _pointer(context, builder, kinds[0], a, builder.add(start, loop.index))
                    )
                    factor = Lanes(builder, _spread(builder, number))
                    for vector, total in zip(read, row, strict=True):
                        so_far = Lanes(builder, builder.load(total))
                        more = factor * Lanes(builder, vector) + so_far
                        builder.store(more.value, total)
            for n, row in enumerate(sums):
                first = builder.add(k, times(c_row, n))
                for m, total in enumerate(row):
                    place = _place(context, builder, kinds[5], c, plus(first, N_LANES * m))
                    builder.store(builder.load(total), place, align=4)
            return context.get_dummy_value()

        del typing, i, n, j, k, m, depth  # numba asks for them by position
        place = types.intp
        return types.void(a, place, place, b, place, c, place, place, place), generate

    return call


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Give where a vector lies that starts at an index of an array."""
    return builder.bitcast(_pointer(context, builder, kind, array, index), _VECTOR.as_pointer())


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def _spread(builder: Any, number: Any) -> Any:
    """Give a vector of one number."""
    nothing, place = ir.Constant(_VECTOR, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(nothing, number, ir.Constant(place, 0))
    same = ir.Constant(ir.VectorType(place, N_LANES), [0] * N_LANES)
    return builder.shuffle_vector(first, nothing, same)


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [float(value)] * N_LANES)
