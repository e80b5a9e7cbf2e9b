"""Gray-level co-occurrence in a sliding window, exactly and fast: kernels of GLCM.

A window of w x w pixels and an offset (dy, dx) hold N = (w - |dy|) (w - |dx|) *pairs*:
two pixels of levels i and j, the offset apart, both inside the window. Everything that
texture asks for is one of two kinds of sum over those pairs.

*Sums of something of i and j* (contrast, dissimilarity, homogeneity, mean, variance,
correlation, cluster shade and prominence) slide: what enters the window is added, what
leaves it is taken away, first down a column of pairs, then along a row. That costs the
same for every window.

*Sums over how often each pair of levels occurs* (ASM and entropy) need the counts n of
a histogram. The histogram slides too, and with it one 64-bit integer that holds

    (weighted sum of n^2) * 2^bits  +  (sum of n ln n, in fixed point),

changed by a table entry whenever a count changes. Four windows above each other slide
together, as the four 16-bit lanes of one word per pair of levels: most pairs enter all
four, and are then looked up once:

    row of pairs      0  1  2  3 ...     h-1  h  h+1 h+2
    window 1          ■  ■  ■  ■ ...      ■
    window 2             ■  ■  ■ ...      ■   ■
    window 3                ■  ■ ...      ■   ■   ■
    window 4                   ■ ...      ■   ■   ■   ■

Levels i, j and j, i are one pair of levels: the symmetric matrix has half of n at each,
and all of it on its diagonal. Counts start at 1 instead of 0, and at N + 2 on the
diagonal, so that one table serves both kinds and its entry 0 is for the lanes that sit
a row out.

(All kernels stand in one file because Numba's cache notices when a file changes, not
when something changes that it imports.)

All sums are sums of integers. They cannot drift, and do not depend on where a window
began to slide: that is why tiles fit together exactly.
"""

from typing import NamedTuple

import numpy as np
from numba import int64, njit, uint16, uint64

#: Names of the features, in the order of this module's arrays.
FEATURES = (
    "contrast",
    "dissimilarity",
    "homogeneity",
    "asm",
    "energy",
    "entropy",
    "mean",
    "variance",
    "correlation",
    "cluster_shade",
    "cluster_prominence",
)
(
    _CONTRAST,
    _DISSIMILARITY,
    _HOMOGENEITY,
    _ASM,
    _ENERGY,
    _ENTROPY,
    _MEAN,
    _VARIANCE,
    _CORRELATION,
    _SHADE,
    _PROMINENCE,
) = range(len(FEATURES))

#: Beyond this side of a window, sums of 32 bits could wrap and entropy lose digits.
LARGEST_WINDOW = 127
MOST_LEVELS = 256

# One in each lane of a word, and where lanes 1 to 3 start.
_ONES = np.uint64(0x0001_0001_0001_0001)
_LANE_1, _LANE_2, _LANE_3 = np.uint64(16), np.uint64(32), np.uint64(48)

# Sums over pairs, in 32 bits: |i-j|, (i-j)^2, i+j, i^2+j^2.
_DISTANCE, _SQUARE, _SUM, _POWER = range(4)
# In 64 bits: 1/(1+(i-j)^2) in fixed point, third and fourth power of i+j-(levels-1).
_NEARNESS, _THIRD, _FOURTH = range(3)
_NEARNESS_UNIT = 2**36


class Plan(NamedTuple):
    """What the kernel must know beyond the image: small arrays, made once for a tile.

    Attributes:
        window: Side of the window, odd.
        levels: Number of gray levels.
        offsets: (direction, 2), dy >= 0: the other sign gives the same pairs.
        average: Average the directions, instead of one map for each.
        slots: Place of each of FEATURES in the result; -1 where it is not wanted.
        changes: What a count that grows by one adds to a packed sum, by that count.
        lanes: (direction, row of pairs): which lanes a row of pairs belongs to.
        bits: Bits of the fixed-point part of a packed sum.
        unit: Fixed-point steps of the entropy part.
        tables: (kind, 2 levels - 1), of k from -(levels - 1) to levels - 1:
            1 / (1 + k^2) in steps of 1 / _NEARNESS_UNIT, k^3, k^4.
    """

    window: int
    levels: int
    offsets: np.ndarray
    average: bool
    slots: np.ndarray
    changes: np.ndarray
    lanes: np.ndarray
    bits: int
    unit: float
    tables: np.ndarray


def plan(
    *,
    window: int,
    levels: int,
    offsets: tuple[tuple[int, int], ...],
    features: tuple[str, ...],
    average: bool,
) -> Plan:
    """Prepare tables for windows of one size.

    Args:
        window: Side of the window in pixels, odd, 3 to LARGEST_WINDOW.
        levels: Number of gray levels, 2 to MOST_LEVELS.
        offsets: Rows and columns from the first pixel of a pair to the second.
        features: Which of FEATURES, in the order wanted.
        average: Average the features over the directions.
    """
    down = np.array([(y, x) if y >= 0 else (-y, -x) for y, x in offsets], np.int64)
    sides = window - np.abs(down)
    most = int(sides.prod(axis=1).max())
    # The weighted sum of n^2 is at most 2 N^2, the other part at most N ln 2N.
    bits = 63 - (2 * most * most + 1).bit_length()
    unit = 2.0 ** (bits - int(np.ceil(most * np.log(2 * most) + 1)).bit_length())
    count = np.arange(most + 1)
    logs = count * np.log(np.maximum(count, 1))
    beside = (count**2 << bits) + np.rint(logs * unit).astype(np.int64)
    diagonal = (2 * count**2 << bits) + np.rint(
        (logs + count * np.log(2.0)) * unit
    ).astype(np.int64)
    changes = np.zeros(2 * most + 3, np.int64)
    changes[1 : most + 1] = np.diff(beside)
    changes[most + 2 : 2 * most + 2] = np.diff(diagonal)

    lanes = np.zeros((len(down), int(sides[:, 0].max()) + 3), np.uint64)
    for direction, tall in enumerate(sides[:, 0]):
        for row in range(tall + 3):
            for lane in range(max(row - tall + 1, 0), min(row, 3) + 1):
                lanes[direction, row] |= np.uint64(0xFFFF << 16 * lane)
    slots = np.full(len(FEATURES), -1)
    for place, name in enumerate(features):
        slots[FEATURES.index(name)] = place
    k = np.arange(1 - levels, levels)
    nearness = np.rint(_NEARNESS_UNIT / (1.0 + k**2)).astype(np.int64)
    return Plan(
        window,
        levels,
        down,
        average,
        slots,
        changes,
        lanes,
        bits,
        unit,
        np.stack([nearness, k**3, k**4]),
    )


@njit(cache=True, nogil=True)
def quantize(
    band: np.ndarray, low: float, high: float, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gray levels of equal width between `low` and `high`.

    Args:
        band: Image (y, x), float, NaN or infinite where invalid.
        low: Lower end of level 0; whatever lies below is level 0 too.
        high: Upper end of the last level, likewise. Where it is not above `low`,
            everything is level 0.
        levels: Number of levels, at most 256.

    Returns:
        Levels (y, x), uint8, 0 where invalid; and where the image is valid.
    """
    gray = np.zeros(band.shape, np.uint8)
    valid = np.isfinite(band)
    if not high > low:
        return gray, valid
    steps = levels / (high - low)
    last = float(levels - 1)
    for y in range(band.shape[0]):
        for x in range(band.shape[1]):
            if valid[y, x]:
                level = (float(band[y, x]) - low) * steps
                gray[y, x] = np.uint8(min(max(level, 0.0), last))
    return gray, valid


@njit(cache=True, nogil=True)
def texture(gray: np.ndarray, valid: np.ndarray, plan: Plan) -> np.ndarray:
    """Texture of every window that lies in an image.

    Args:
        gray: Gray levels (y, x), uint8, below `plan.levels`.
        valid: Valid pixels (y, x), bool.
        plan: What `plan` gave.

    Returns:
        (feature, y, x), or with the directions not averaged (direction x feature, y,
        x), float32, smaller than the image by window - 1; NaN where a window holds an
        invalid pixel.
    """
    window, offsets, slots = plan.window, plan.offsets, plan.slots
    directions = offsets.shape[0]
    features = 0
    for slot in slots:
        features = max(features, slot + 1)
    height = gray.shape[0] - window + 1
    width = gray.shape[1] - window + 1
    maps = features if plan.average else features * directions
    result = np.empty((maps, height, width), np.float32)

    counted = slots[_ASM] >= 0 or slots[_ENERGY] >= 0 or slots[_ENTROPY] >= 0
    summed = slots[_CONTRAST] >= 0 or slots[_DISSIMILARITY] >= 0
    summed = summed or slots[_MEAN] >= 0 or slots[_VARIANCE] >= 0
    summed = summed or slots[_CORRELATION] >= 0
    clusters = slots[_SHADE] >= 0 or slots[_PROMINENCE] >= 0
    summed = summed or clusters

    usable = _usable(valid, window)
    codes = np.zeros((1, 1, 1), np.uint16)
    if counted:
        codes = _codes(gray, offsets, 4 * ((height + 3) // 4) + window - 1)
    counts = _no_counts(plan)
    packed = np.zeros((directions, 4, width), np.int64)
    # Sums down the columns of pairs: of the window that `slide_down` has reached.
    columns = np.zeros((directions, 4, gray.shape[1]), np.int32)
    large_columns = np.zeros((directions, 3, gray.shape[1]), np.int64)
    sums = np.zeros((4, width), np.int32)
    large_sums = np.zeros((3, width), np.int64)
    values = np.zeros((features, width))

    for top in range(0, height, 4):
        bottom = min(top + 4, height)
        first, last = _span(usable[top:bottom])
        if counted and first < last:
            for direction in range(directions):
                _slide_counts(
                    codes[direction, top:, first:],
                    last - first,
                    window - abs(offsets[direction, 1]),
                    plan.changes,
                    plan.lanes[direction, : window - offsets[direction, 0] + 3],
                    counts,
                    packed[direction, :, first:],
                )
        for y in range(top, bottom):
            for direction in range(directions):
                dy, dx = offsets[direction]
                tall, wide = window - dy, window - abs(dx)
                if summed:
                    _slide_down(gray, y, tall, dy, dx, columns[direction])
                    _slide_along(columns[direction], wide, sums)
                large = large_columns[direction]
                if slots[_HOMOGENEITY] >= 0:
                    _slide_table_down(gray, y, tall, dy, dx, -1, _NEARNESS, plan, large)
                    _slide_along(large[:_THIRD], wide, large_sums[:_THIRD])
                if clusters:
                    _slide_table_down(gray, y, tall, dy, dx, 1, _THIRD, plan, large)
                    _slide_table_down(gray, y, tall, dy, dx, 1, _FOURTH, plan, large)
                    _slide_along(large[_THIRD:], wide, large_sums[_THIRD:])
                if direction == 0 or not plan.average:
                    values[:] = 0.0
                pairs = tall * wide
                if summed:
                    _add_linear(sums, pairs, slots, values)
                if slots[_HOMOGENEITY] >= 0:
                    nearness = large_sums[_NEARNESS]
                    _add_nearness(nearness, pairs, values[slots[_HOMOGENEITY]])
                if clusters:
                    _add_clusters(sums, large_sums, pairs, plan.levels, slots, values)
                if counted:
                    _add_counted(packed[direction, y - top], pairs, plan, values)
                if not plan.average:
                    start = direction * features
                    _store(values, 1, usable[y], result[start : start + features, y])
            if plan.average:
                _store(values, directions, usable[y], result[:, y])
    return result


@njit(cache=True, nogil=True)
def _usable(valid: np.ndarray, window: int) -> np.ndarray:
    """Windows without an invalid pixel."""
    height, width = valid.shape[0] - window + 1, valid.shape[1] - window + 1
    usable = np.empty((height, width), np.bool_)
    invalid = np.zeros(valid.shape[1], np.int64)
    for y in range(valid.shape[0]):
        for x in range(valid.shape[1]):
            invalid[x] += not valid[y, x]
            if y >= window:
                invalid[x] -= not valid[y - window, x]
        if y >= window - 1:
            inside = invalid[: window - 1].sum()
            for x in range(width):
                inside += invalid[x + window - 1]
                usable[y - window + 1, x] = inside == 0
                inside -= invalid[x]
    return usable


@njit(cache=True, nogil=True)
def _span(usable: np.ndarray) -> tuple[int, int]:
    """First column with a usable window in it, and one behind the last."""
    first, last = usable.shape[1], 0
    for y in range(usable.shape[0]):
        for x in range(usable.shape[1]):
            if usable[y, x]:
                first = min(first, x)
                last = max(last, x + 1)
    return first, last


@njit(cache=True, nogil=True)
def _codes(gray: np.ndarray, offsets: np.ndarray, rows: int) -> np.ndarray:
    """Number of each pair's two levels, (direction, y, x).

    Levels low <= high have the number high (high + 1) / 2 + low. A pair stands at its
    upper row and its left column. Rows are added below, to whole blocks of windows.
    """
    height, width = gray.shape
    codes = np.zeros((offsets.shape[0], rows, width), np.uint16)
    for direction in range(offsets.shape[0]):
        dy, dx = offsets[direction]
        left, right = max(-dx, 0), max(dx, 0)
        for y in range(height - dy):
            first, second = gray[y, left:], gray[y + dy, right:]
            row = codes[direction, y]
            for x in range(width - left - right):
                high = np.uint16(max(first[x], second[x]))
                low = np.uint16(min(first[x], second[x]))
                row[x] = np.uint16(np.uint16(high * (high + 1)) // 2 + low)
    return codes


@njit(cache=True, nogil=True)
def _no_counts(plan: Plan) -> np.ndarray:
    """A histogram without pairs: four lanes a word, each at its lowest count."""
    counts = np.full(plan.levels * (plan.levels + 1) // 2, _ONES, np.uint64)
    diagonal = uint64((plan.changes.size - 3) // 2 + 2)
    for level in range(plan.levels):
        counts[level * (level + 1) // 2 + level] = _ONES * diagonal
    return counts


@njit(cache=True, nogil=True)
def _slide_counts(
    codes: np.ndarray,
    windows: int,
    wide: int,
    changes: np.ndarray,
    lanes: np.ndarray,
    counts: np.ndarray,
    packed: np.ndarray,
) -> None:
    """Slide four windows, one below the other, along a row.

    Args:
        codes: Pairs (y, x) from the upper left corner of the first window on.
        windows: Number of steps.
        wide: Columns of pairs in a window.
        changes: See `Plan`.
        lanes: See `Plan`, of this direction: one entry for each row of pairs.
        counts: Histogram without pairs; without pairs again at the end.
        packed: Takes the packed sums (lane, x).
    """
    rows = uint64(lanes.size)  # unsigned: an index that cannot be negative is quicker
    sum_0, sum_1, sum_2, sum_3 = int64(0), int64(0), int64(0), int64(0)
    for x in range(wide):
        entering = codes[:, x]
        for row in range(rows):
            lane = lanes[row]
            word = counts[entering[row]]
            counts[entering[row]] = word + (lane & _ONES)
            now = word & lane
            sum_0 += changes[uint16(now)]
            sum_1 += changes[uint16(now >> _LANE_1)]
            sum_2 += changes[uint16(now >> _LANE_2)]
            sum_3 += changes[now >> _LANE_3]
    for x in range(windows - 1):
        packed[0, x], packed[1, x] = sum_0, sum_1
        packed[2, x], packed[3, x] = sum_2, sum_3
        entering, leaving = codes[:, x + wide], codes[:, x]
        for row in range(rows):
            lane = lanes[row]
            word = counts[entering[row]]
            counts[entering[row]] = word + (lane & _ONES)
            now = word & lane
            sum_0 += changes[uint16(now)]
            sum_1 += changes[uint16(now >> _LANE_1)]
            sum_2 += changes[uint16(now >> _LANE_2)]
            sum_3 += changes[now >> _LANE_3]
            word = counts[leaving[row]] - (lane & _ONES)
            counts[leaving[row]] = word
            now = word & lane
            sum_0 -= changes[uint16(now)]
            sum_1 -= changes[uint16(now >> _LANE_1)]
            sum_2 -= changes[uint16(now >> _LANE_2)]
            sum_3 -= changes[now >> _LANE_3]
    x = windows - 1
    packed[0, x], packed[1, x] = sum_0, sum_1
    packed[2, x], packed[3, x] = sum_2, sum_3
    for x in range(windows - 1, windows - 1 + wide):
        leaving = codes[:, x]
        for row in range(rows):
            counts[leaving[row]] -= lanes[row] & _ONES


@njit(cache=True, nogil=True)
def _slide_down(
    gray: np.ndarray,
    y: int,
    tall: int,
    dy: int,
    dx: int,
    columns: np.ndarray,
) -> None:
    """Bring sums down the columns of pairs to the windows whose upper row is `y`."""
    left, right = max(-dx, 0), max(dx, 0)
    width = gray.shape[1] - left - right
    if y > 0:
        row, old = y + tall - 1, y - 1
        _change_row(
            gray[row, left : left + width],
            gray[row + dy, right : right + width],
            gray[old, left : left + width],
            gray[old + dy, right : right + width],
            columns,
        )
        return
    # Pairs of level 0 add nothing.
    nothing = np.zeros(width, np.uint8)
    for row in range(tall):
        _change_row(
            gray[row, left : left + width],
            gray[row + dy, right : right + width],
            nothing,
            nothing,
            columns,
        )


@njit(cache=True, nogil=True)
def _change_row(
    first: np.ndarray,
    second: np.ndarray,
    old_first: np.ndarray,
    old_second: np.ndarray,
    columns: np.ndarray,
) -> None:
    """Add a row of pairs, take an old one away. One simple loop for each sum: SIMD."""
    column = columns[_DISTANCE]
    for x in range(first.size):
        new = abs(np.int32(first[x]) - np.int32(second[x]))
        old = abs(np.int32(old_first[x]) - np.int32(old_second[x]))
        column[x] += np.int32(new - old)
    column = columns[_SQUARE]
    for x in range(first.size):
        new = np.int32(first[x]) - np.int32(second[x])
        old = np.int32(old_first[x]) - np.int32(old_second[x])
        column[x] += np.int32(new * new - old * old)
    column = columns[_SUM]
    for x in range(first.size):
        new = np.int32(first[x]) + np.int32(second[x])
        old = np.int32(old_first[x]) + np.int32(old_second[x])
        column[x] += np.int32(new - old)
    column = columns[_POWER]
    for x in range(first.size):
        i, j = np.int32(first[x]), np.int32(second[x])
        old_i, old_j = np.int32(old_first[x]), np.int32(old_second[x])
        column[x] += np.int32(i * i + j * j - old_i * old_i - old_j * old_j)


@njit(cache=True, nogil=True)
def _slide_table_down(
    gray: np.ndarray,
    y: int,
    tall: int,
    dy: int,
    dx: int,
    sign: int,
    kind: int,
    plan: Plan,
    columns: np.ndarray,
) -> None:
    """Like `_slide_down`, of what a table holds for i - j (sign -1) or i + j (sign 1).

    The sum counts from the middle of its range, as the difference does by itself.
    """
    left, right = max(-dx, 0), max(dx, 0)
    width = gray.shape[1] - left - right
    column, table = columns[kind], plan.tables[kind]
    start = plan.levels - 1 if sign < 0 else 0
    for row in range(0 if y == 0 else y + tall - 1, y + tall):
        first, second = gray[row, left:], gray[row + dy, right:]
        for x in range(width):
            column[x] += table[uint64(start + first[x] + sign * second[x])]
    if y > 0:
        first, second = gray[y - 1, left:], gray[y - 1 + dy, right:]
        for x in range(width):
            column[x] -= table[uint64(start + first[x] + sign * second[x])]


@njit(cache=True, nogil=True)
def _slide_along(columns: np.ndarray, wide: int, sums: np.ndarray) -> None:
    """Sums over windows from sums down their columns."""
    for kind in range(columns.shape[0]):
        column, total = columns[kind], sums[kind]
        running = column[:wide].sum()
        for x in range(total.size - 1):
            total[x] = running
            running += column[x + wide] - column[x]
        total[-1] = running


@njit(cache=True, nogil=True)
def _add_linear(
    sums: np.ndarray, pairs: int, slots: np.ndarray, values: np.ndarray
) -> None:
    """Add the features that are means over pairs, and those made of such means.

    With S = sum of i + j, P = sum of i^2 + j^2, C = sum of (i - j)^2 over N pairs: mean
    = S / 2N, variance = (2N P - S^2) / 4N^2, and since 2 i j = i^2 + j^2 - (i - j)^2,
    correlation = 1 - 2N C / (2N P - S^2). Numerators are whole numbers below 2^53,
    exact.
    """
    each = 1.0 / pairs
    if slots[_CONTRAST] >= 0:
        value, total = values[slots[_CONTRAST]], sums[_SQUARE]
        for x in range(value.size):
            value[x] += total[x] * each
    if slots[_DISSIMILARITY] >= 0:
        value, total = values[slots[_DISSIMILARITY]], sums[_DISTANCE]
        for x in range(value.size):
            value[x] += total[x] * each
    if slots[_MEAN] >= 0:
        value, total = values[slots[_MEAN]], sums[_SUM]
        half = 0.5 * each
        for x in range(value.size):
            value[x] += total[x] * half
    twice = 2.0 * pairs
    total, power, square = sums[_SUM], sums[_POWER], sums[_SQUARE]
    if slots[_VARIANCE] >= 0:
        value = values[slots[_VARIANCE]]
        step = 0.25 * each * each
        for x in range(value.size):
            value[x] += (twice * power[x] - float(total[x]) * float(total[x])) * step
    if slots[_CORRELATION] >= 0:
        value = values[slots[_CORRELATION]]
        for x in range(value.size):
            spread = twice * power[x] - float(total[x]) * float(total[x])
            # A flat window: C is 0, and any divisor gives scikit-image's 1.
            value[x] += 1.0 - twice * square[x] / max(spread, 1.0)


@njit(cache=True, nogil=True)
def _add_nearness(nearness: np.ndarray, pairs: int, value: np.ndarray) -> None:
    """Add homogeneity."""
    step = 1.0 / (float(_NEARNESS_UNIT) * pairs)
    for x in range(value.size):
        value[x] += nearness[x] * step


@njit(cache=True, nogil=True)
def _add_clusters(
    sums: np.ndarray,
    large_sums: np.ndarray,
    pairs: int,
    levels: int,
    slots: np.ndarray,
    values: np.ndarray,
) -> None:
    """Add the third and fourth central moments of i + j."""
    for x in range(values.shape[1]):
        center = levels - 1
        total = sums[_SUM, x]
        squares = 2 * int64(sums[_POWER, x]) - sums[_SQUARE, x]
        mean = (total - center * pairs) / pairs
        second = (squares - 2 * center * int64(total) + center * center * pairs) / pairs
        third, fourth = large_sums[_THIRD, x] / pairs, large_sums[_FOURTH, x] / pairs
        if slots[_SHADE] >= 0:
            values[slots[_SHADE], x] += third - 3 * mean * second + 2 * mean**3
        if slots[_PROMINENCE] >= 0:
            values[slots[_PROMINENCE], x] += (
                fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
            )


@njit(cache=True, nogil=True)
def _add_counted(
    packed: np.ndarray, pairs: int, plan: Plan, values: np.ndarray
) -> None:
    """Add the features of the counts, unpacked from a sum.

    With n pairs of two levels, the symmetric matrix holds n / 2N at each of its two
    places, or n / N on the diagonal. So ASM = (sum of n^2, twice on the diagonal) /
    2N^2 and entropy = ln 2N - (sum of n ln n, of n ln 2n on the diagonal) / N.
    """
    slots = plan.slots
    if slots[_ASM] >= 0:
        value = values[slots[_ASM]]
        step = 0.5 / (float(pairs) * pairs)
        for x in range(value.size):
            value[x] += (packed[x] >> plan.bits) * step
    if slots[_ENERGY] >= 0:
        value = values[slots[_ENERGY]]
        step = 0.5 / (float(pairs) * pairs)
        for x in range(value.size):
            value[x] += np.sqrt((packed[x] >> plan.bits) * step)
    if slots[_ENTROPY] >= 0:
        value = values[slots[_ENTROPY]]
        part = (int64(1) << plan.bits) - int64(1)
        whole, step = np.log(2.0 * pairs), 1.0 / (plan.unit * pairs)
        for x in range(value.size):
            value[x] += max(whole - (packed[x] & part) * step, 0.0)


@njit(cache=True, nogil=True)
def _store(
    values: np.ndarray, directions: int, usable: np.ndarray, result: np.ndarray
) -> None:
    """Write a row of the result: the mean over directions, NaN where not usable."""
    for feature in range(values.shape[0]):
        value, row = values[feature], result[feature]
        for x in range(value.size):
            mean = value[x] / directions
            row[x] = mean if usable[x] else np.nan
