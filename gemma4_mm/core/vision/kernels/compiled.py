"""The resize in 16-bit products and 32-bit sums, compiled by numba: imported only where that kernel runs.

A group of 16 rows is resized at a time, and every vector holds the same pixel of several rows, so that one weight
serves all lanes and nothing is ever added across lanes. A lane is a pair of neighbouring pixels of one channel, two
16-bit integers, and `multiply_add` is `sum + pixel₀·weight₀ + pixel₁·weight₁`, one or two instructions:

    packed: 32-bit lanes [pair of columns][row: even ones, then odd ones][R G B 0], each holding two pixels of a row
    ring:   32-bit lanes [pair of rows][column][R G B], each holding two rows of a column

Along the row, `packed` becomes whole levels, and even and odd rows are joined into the lanes of `ring`; down the
columns, `ring` becomes levels again, which are rescaled and stored where they belong in their patch.

No sum overflows: a pixel is at most 255, and `kernels.accelerated` refuses weights with `255·Σ|weight| + half ≥ 2^31`.

Everything compiled stands in this file: numba's cache is renewed when the file of a function changes, but not when a
file does that the function draws on.
"""

from typing import Any, Final

import llvmlite.ir as ir
import numba
import numpy as np
from numba.core import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from gemma4_mm.spec import MERGED_PATCH_PX, PATCH_VALUES

GROUP_ROWS: Final = 16  # rows resized together along the row: 16 × RGB0 = four vectors of 16 lanes
_LANES: Final = 16
_LANE_BYTES: Final = 4
_VECTOR_BYTES: Final = _LANES * _LANE_BYTES
_ROW_BYTES: Final = 4 * _LANE_BYTES  # of one row in a pair of columns: R, G, B, 0
_PAIR_BYTES: Final = GROUP_ROWS * _ROW_BYTES
_GROUP_PAIRS: Final = GROUP_ROWS // 2
_PATCH_PX: Final = MERGED_PATCH_PX
_PATCH_ROW: Final = MERGED_PATCH_PX * 3  # nine vectors
_PATCH_VALUES: Final = PATCH_VALUES
_RGB_BYTES: Final = 3
_RGBX_BYTES: Final = 4

_i8, _i16, _i32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_int32x16 = ir.VectorType(_i32, _LANES)
_float32x16 = ir.VectorType(ir.FloatType(), _LANES)


class _Vector(types.Type):
    """Sixteen 32-bit integers in a register."""

    def __init__(self) -> None:
        super().__init__(name="int32x16")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _int32x16)


_vector = _Vector()


def _constant(vector_type: Any, value: float) -> Any:
    return ir.Constant(vector_type, [value] * vector_type.count)


def _shuffled(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_i32, len(lanes)), lanes))


def _broadcast(builder: Any, vector_type: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(vector_type, ir.Undefined), scalar, ir.Constant(_i32, 0))
    return _shuffled(builder, one, one, [0] * vector_type.count)


def _address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, pointee: Any) -> Any:
    """Pointer to a `pointee` that lies `offset` bytes into an array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(builder.bitcast(data, _i8.as_pointer()), [offset]), pointee.as_pointer())


@intrinsic
def splat(_typing: Any, value: Any) -> Any:
    """Every lane the same 32-bit value."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _broadcast(builder, _int32x16, arguments[0])

    return _vector(types.int32), generate


@intrinsic
def load(_typing: Any, array: Any, offset: Any) -> Any:
    """Sixteen lanes from `offset` bytes on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(
            _address(context, builder, signature.args[0], arguments[0], arguments[1], _int32x16), align=4
        )

    return _vector(array, types.intp), generate


@intrinsic
def multiply_add(_typing: Any, total: Any, pixels: Any, weights: Any) -> Any:
    """`total` plus the products of both 16-bit halves of each lane."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        total, pixels, weights = arguments
        halves = ir.VectorType(_i16, 2 * _LANES)
        a, b = builder.bitcast(pixels, halves), builder.bitcast(weights, halves)
        return builder.add(total, _pair_sums(context, builder, a, b))

    return _vector(total, pixels, weights), generate


def _pair_sums(context: Any, builder: Any, a: Any, b: Any) -> Any:
    """Products of two vectors of 32 16-bit integers, added in pairs: sixteen 32-bit integers."""
    if (found := x86_pair_sums(context)) is None:
        products = []
        for half in (0, 1):
            lanes = list(range(half, 2 * _LANES, 2))
            products.append(builder.mul(*(builder.sext(_shuffled(builder, x, x, lanes), _int32x16) for x in (a, b))))
        return builder.add(*products)
    name, width = found
    part = ir.VectorType(_i16, width)
    function = builder.module.declare_intrinsic(
        name, (), ir.FunctionType(ir.VectorType(_i32, width // 2), [part, part])
    )
    sums = []
    for first in range(0, 2 * _LANES, width):
        lanes = list(range(first, first + width))
        sums.append(builder.call(function, [_shuffled(builder, x, x, lanes) for x in (a, b)]))
    while len(sums) > 1:
        lanes = list(range(2 * sums[0].type.count))
        sums = [_shuffled(builder, low, high, lanes) for low, high in zip(sums[::2], sums[1::2], strict=True)]
    return sums[0]


def x86_pair_sums(context: Any) -> tuple[str, int] | None:
    """LLVM's name of the widest such instruction, and its 16-bit lanes; None for other processors.

    There LLVM finds its own way. On x86 it would, too, but for weights that are the same in every lane: those it
    widens first, and multiplies 32-bit integers.
    """
    triple, _, features = context.codegen().magic_tuple()
    if not triple.startswith("x86_64"):
        return None
    enabled = features.split(",")
    if "+avx512bw" in enabled:
        return "llvm.x86.avx512.pmaddw.d.512", 32
    return ("llvm.x86.avx2.pmadd.wd", 16) if "+avx2" in enabled else ("llvm.x86.sse2.pmadd.wd", 8)


@intrinsic
def to_levels(_typing: Any, total: Any, precision: Any) -> Any:
    """Shift sums right by `precision` and clip them to 0…255."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        levels = builder.ashr(arguments[0], _broadcast(builder, _int32x16, arguments[1]))
        for bound, keep in ((0, ">"), (255, "<")):
            limit = _constant(_int32x16, bound)
            levels = builder.select(builder.icmp_signed(keep, levels, limit), levels, limit)
        return levels

    return _vector(total, types.int32), generate


@intrinsic
def store_pairs(_typing: Any, array: Any, offset: Any, step: Any, even: Any, odd: Any) -> Any:
    """Join two vectors of four pixels each, and store the joined pixels `step` bytes apart."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, offset, step, even, odd = arguments
        pairs = builder.or_(even, builder.shl(odd, _constant(_int32x16, 16)))
        for pixel in range(4):
            quarter = _shuffled(builder, pairs, pairs, list(range(4 * pixel, 4 * pixel + 4)))
            pointer = _address(context, builder, signature.args[0], array, offset, quarter.type)
            builder.store(quarter, pointer, align=4)
            offset = builder.add(offset, step)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, even, odd), generate


@intrinsic
def load_byte(_typing: Any, address: Any) -> Any:
    """One byte of memory."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.load(builder.inttoptr(arguments[0], _i8.as_pointer())), _i32)

    return types.int32(types.intp), generate


def _pack_intrinsic(pixel_bytes: int) -> Any:
    @intrinsic
    def pack(_typing: Any, packed: Any, offset: Any, address: Any) -> Any:
        """Read two neighbouring pixels, and store them as lanes R, G, B, 0. Eight bytes are read."""
        zero = 8
        lanes = [zero] * 16
        for channel in range(3):
            lanes[4 * channel] = channel
            lanes[4 * channel + 2] = pixel_bytes + channel

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            packed, offset, address = arguments
            pixels = ir.VectorType(_i8, 8)
            pair = builder.load(builder.inttoptr(address, pixels.as_pointer()), align=1)
            spread = _shuffled(builder, pair, _constant(pixels, 0), lanes)
            pointer = _address(context, builder, signature.args[0], packed, offset, spread.type)
            builder.store(spread, pointer, align=16)
            return context.get_dummy_value()

        return types.void(packed, types.intp, types.intp), generate

    return pack


pack_rgb = _pack_intrinsic(_RGB_BYTES)
pack_rgbx = _pack_intrinsic(_RGBX_BYTES)


@intrinsic
def store_rescaled(_typing: Any, out: Any, index: Any, levels: Any, scaling: Any) -> Any:
    """Store levels times, or over, a float32 factor: as float32, or rounded to the bits of a 16-bit float.

    `out` is the address of value 0, and `scaling` (factor, divide, bias, lost bits): see `kernels.accelerated`.
    Rounding is to nearest; none of the 256 levels lies halfway, none is subnormal in float16, and 0 has bits of its
    own.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        out, index, levels, scaling = arguments
        factor, divide, bias, lost = (builder.extract_value(scaling, field) for field in range(4))
        factor = _broadcast(builder, _float32x16, factor)
        real = builder.sitofp(levels, _float32x16)
        none = ir.Constant(_i32, 0)
        divide = builder.icmp_signed("!=", divide, none)
        values = builder.select(divide, builder.fdiv(real, factor), builder.fmul(real, factor))
        with builder.if_else(builder.icmp_signed("==", lost, none)) as (single, half):
            with single:
                _store_at(builder, values, out, index)
            with half:
                _store_at(builder, _round_bits(builder, values, levels, bias=bias, lost=lost), out, index)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, levels, scaling), generate


def _store_at(builder: Any, values: Any, out: Any, index: Any) -> None:
    item_bytes = 2 if values.type.element == _i16 else 4
    address = builder.add(out, builder.mul(index, ir.Constant(index.type, item_bytes)))
    builder.store(values, builder.inttoptr(address, values.type.as_pointer()), align=item_bytes)


def _round_bits(builder: Any, values: Any, levels: Any, *, bias: Any, lost: Any) -> Any:
    bits = builder.bitcast(values, _int32x16)
    one = ir.Constant(_i32, 1)
    half = builder.shl(one, builder.sub(lost, one))
    lost, shift = (_broadcast(builder, _int32x16, scalar) for scalar in (lost, builder.sub(half, bias)))
    rounded = builder.lshr(builder.add(bits, shift), lost)
    zero = _constant(_int32x16, 0)
    rounded = builder.select(builder.icmp_signed(">", levels, zero), rounded, zero)
    return builder.trunc(rounded, ir.VectorType(_i16, _LANES))


def _compiled(function: Any) -> Any:
    """Compile at the first call, or load what numba's cache holds: beside this file, or in the user's cache folder."""
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written to: compiled anew in every process
        return numba.njit(**options)(function)


@_compiled
def _pack_rows(
    source: Any, n_rows: Any, width: Any, row_bytes: Any, pixel_bytes: Any, first_pair: Any, n_pairs: Any, packed: Any
) -> None:
    """Fill `packed` with pairs of columns of up to 16 rows."""
    whole = max(min(n_pairs, (width - 1) // 2 - first_pair), 0)  # eight bytes are read: past the end of the last pair
    pair_bytes = 2 * pixel_bytes
    for row in range(n_rows):
        lane = ((row & 1) * _GROUP_PAIRS + row // 2) * _ROW_BYTES
        left = source + row * row_bytes + first_pair * pair_bytes
        if pixel_bytes == _RGB_BYTES:
            for pair in range(whole):
                pack_rgb(packed, pair * _PAIR_BYTES + lane, left + pair * 2 * _RGB_BYTES)
        else:
            for pair in range(whole):
                pack_rgbx(packed, pair * _PAIR_BYTES + lane, left + pair * 2 * _RGBX_BYTES)
        for pair in range(whole, n_pairs):
            pixel = left + pair * pair_bytes
            is_pair = (first_pair + pair) * 2 + 1 < width
            for channel in range(3):
                even = load_byte(pixel + channel)
                odd = load_byte(pixel + pixel_bytes + channel) if is_pair else np.int32(0)
                packed[(pair * _PAIR_BYTES + lane) // _LANE_BYTES + channel] = even | (odd << np.int32(16))


@_compiled
def _resize_across(packed: Any, block: Any, across: Any, ring: Any, offset: Any) -> None:
    """Resize one group of rows along the row, one block of outputs, into the ring from `offset` bytes on."""
    starts, counts, weights, precision = across
    first, stop, first_pair = block
    half = splat(np.int32(1) << (precision - np.int32(1)))
    step = ring.shape[1] * _LANE_BYTES
    for output in range(first, stop):
        a, b, c, d = half, half, half, half
        at = (starts[output] - first_pair) * _PAIR_BYTES
        for tap in range(counts[output]):
            weight = splat(weights[output, tap])
            a = multiply_add(a, load(packed, at), weight)
            b = multiply_add(b, load(packed, at + _VECTOR_BYTES), weight)
            c = multiply_add(c, load(packed, at + 2 * _VECTOR_BYTES), weight)
            d = multiply_add(d, load(packed, at + 3 * _VECTOR_BYTES), weight)
            at += _PAIR_BYTES
        # The fourth lane of a pixel lands where the next output will.
        place = offset + output * 3 * _LANE_BYTES
        store_pairs(ring, place, step, to_levels(a, precision), to_levels(c, precision))
        store_pairs(ring, place + 4 * step, step, to_levels(b, precision), to_levels(d, precision))


@_compiled
def _resize_down(ring: Any, output: Any, down: Any, columns: Any, out: Any, scaling: Any) -> None:
    """Resize one row of pixels down the columns, into its places in `columns` patches."""
    starts, counts, weights, precision = down
    half = splat(np.int32(1) << (precision - np.int32(1)))
    n_pairs, step = ring.shape[0], ring.shape[1] * _LANE_BYTES
    first, count = starts[output] % n_pairs, counts[output]
    place = (output // _PATCH_PX) * columns * _PATCH_VALUES + (output % _PATCH_PX) * _PATCH_ROW
    for column in range(columns):
        for third in range(0, _PATCH_ROW, 3 * _LANES):
            left = (column * _PATCH_ROW + third) * _LANE_BYTES
            a, b, c = half, half, half
            pair = first
            for tap in range(count):
                weight = splat(weights[output, tap])
                at = pair * step + left
                a = multiply_add(a, load(ring, at), weight)
                b = multiply_add(b, load(ring, at + _VECTOR_BYTES), weight)
                c = multiply_add(c, load(ring, at + 2 * _VECTOR_BYTES), weight)
                pair += 1
                if pair == n_pairs:
                    pair = 0
            index = place + column * _PATCH_VALUES + third
            store_rescaled(out, index, to_levels(a, precision), scaling)
            store_rescaled(out, index + _LANES, to_levels(b, precision), scaling)
            store_rescaled(out, index + 2 * _LANES, to_levels(c, precision), scaling)


@_compiled
def resize_strip(
    strip: Any, output: Any, output_stop: Any, plan: Any, packed: Any, ring: Any, columns: Any, out: Any, scaling: Any
) -> Any:
    """Resize a strip of the source, and write every row of the result for which all rows have been seen.

    Memory whose layout varies is given by its address, so that one compilation serves every layout and dtype; the
    caller keeps it alive.

    Args:
        strip: (address of the first pixel, first row, rows, width, bytes from one row to the next, bytes from one pixel
            to the next): uint8 pixels of 3 or 4 bytes, R, G and B together. The first row is counted in the source and
            is a multiple of 16; strips follow one another.
        output: the first row of the result that is not yet written.
        output_stop: one past the last that is wanted.
        plan: (blocks, weights along the row, weights down the columns); see `kernels.accelerated`.
        packed: int32 scratch, 64-byte aligned.
        ring: int32 scratch `(pairs of rows, lanes)`, kept from strip to strip.
        columns: patches of a row.
        out: address of the patches.
        scaling: see `store_rescaled`.

    Returns:
        The next `output`.
    """
    source, first_row, strip_rows, width, row_bytes, pixel_bytes = strip
    blocks, across, down = plan
    starts, counts, _, _ = down
    n_groups = ring.shape[0] // _GROUP_PAIRS
    group_bytes = _GROUP_PAIRS * ring.shape[1] * _LANE_BYTES
    for top in range(0, strip_rows, GROUP_ROWS):
        n_rows = min(GROUP_ROWS, strip_rows - top)
        offset = ((first_row + top) // GROUP_ROWS) % n_groups * group_bytes
        for number in range(blocks.shape[0]):
            block = (blocks[number, 0], blocks[number, 1], blocks[number, 2])
            place = source + top * row_bytes
            _pack_rows(place, n_rows, width, row_bytes, pixel_bytes, block[2], blocks[number, 3], packed)
            _resize_across(packed, block, across, ring, offset)
        seen = (first_row + top + n_rows + 1) // 2  # pairs of rows
        while output < output_stop and starts[output] + counts[output] <= seen:
            _resize_down(ring, output, down, columns, out, scaling)
            output += 1
    return output
