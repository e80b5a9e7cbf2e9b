"""What is held out shares nothing with what is learned from."""

import numpy as np
import pytest

from geofuse.errors import ParameterError
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.synthetic import simulate_case
from geofuse.training.holdout import held_out, part_of
from geofuse.training.watching import watching


def dated(base, day, seed=0):
    """A case with one pair, of these days of July."""
    case = simulate_case(32, bands=("red",), scale=4, seed=seed)
    pair = case.inputs.pairs[0]

    def of(image, number):
        return image.assign_coords(time=np.datetime64(f"2021-07-{number:02}", "ns"))

    return FusionCase(
        FusionInputs(
            [Pair(of(pair.fine, base), of(pair.coarse, base))],
            of(case.inputs.coarse, day),
            4,
        ),
        of(case.reference, day),
    )


def test_the_last_date_is_held_out():
    cases = [dated(1, 5), dated(5, 9), dated(9, 13)]
    found = held_out(cases)
    assert found.validation == [cases[2]]
    assert found.learning == cases[:2]


def test_no_date_that_is_held_out_is_a_base_date_either():
    cases = [dated(13, 5), dated(1, 9), dated(9, 13)]
    found = held_out(cases)
    assert found.validation == [cases[2]]
    assert found.learning == [cases[1]]


def test_of_ten_dates_two_are_held_out():
    found = held_out([dated(30, day) for day in range(1, 11)])
    assert [int(str(c.inputs.date)[-2:]) for c in found.validation] == [9, 10]


def test_of_one_date_a_strip_is_held_out():
    case = simulate_case(70, bands=("red",), scale=4, pairs=2)
    case = part_of(case, slice(0, 50), slice(3, None))
    assert case.inputs.offset == (0, 1)
    found = held_out([case])
    (near,), (far,) = found.learning, found.validation
    assert near.reference.shape[1:] == (50, 45)
    assert far.reference.shape[1:] == (50, 14)
    assert near.inputs.offset == (0, 1)
    assert far.inputs.offset == (0, 0)
    gap = float(far.reference.x[0] - near.reference.x[-1]) / 30
    assert gap == 2 * 4 + 1
    assert len(far.inputs.pairs) == 2


def test_two_dates_that_hang_together_are_cut_into_strips():
    found = held_out([dated(1, 5), dated(5, 1)])
    assert len(found.learning) == len(found.validation) == 2


def test_what_cannot_be_held_out_is_an_error():
    with pytest.raises(ParameterError, match="at least one case"):
        held_out([])
    with pytest.raises(ParameterError, match="6 coarse pixels"):
        held_out([simulate_case(32, scale=8)])


def test_what_is_held_out_already_is_taken():
    cases = [dated(1, 5), dated(5, 9), dated(9, 13)]
    with watching(validation=cases[:1]):
        found = held_out(cases[1:])
    assert (found.learning, found.validation) == (cases[1:], cases[:1])
