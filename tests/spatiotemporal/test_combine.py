"""PrecisionFusion against its formulas written out, and what its estimates must know."""

import numpy as np
import pytest

from geofuse.cli.methods import method_from, methods_from
from geofuse.errors import (
    MissingScaleError,
    ParameterError,
    TooFewPairsError,
    UnknownNameError,
)
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.baselines import (
    BandLine,
    CoarseChange,
    LinearInTime,
    Persistence,
)
from geofuse.spatiotemporal.combine import PrecisionFusion
from geofuse.spatiotemporal.fitfc import FitFC
from geofuse.spatiotemporal.fusion_unet import FusionUNet
from geofuse.spatiotemporal.precision import (
    coarse_noise,
    collocation,
    differences,
    error_powers,
    gate,
    weights,
)
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.synthetic import simulate_case
from tests.oracles import precision as oracle

SCALE = 8
SMALL = (STARFM(radius=2), CoarseChange(upsample="bicubic"), BandLine())


def case_of(size=64, *, pairs=1, seed=0, **options):
    options = {"bands": ("red", "nir"), "scale": SCALE, **options}
    return simulate_case(size, pairs=pairs, seed=seed, **options)


def values_of(method, inputs, name="reflectance"):
    # Always the same outputs: compiled once a method.
    outputs = ("reflectance", "aleatoric", "epistemic")
    return method.predict(inputs, outputs=outputs).compute()[name].values


def rmse(predicted, case):
    return np.sqrt(((predicted - case.reference.values) ** 2).mean(axis=(1, 2))).mean()


def test_one_pair_is_the_mean_by_precision_written_out():
    inputs = case_of().inputs
    pair = inputs.pairs[0]
    fusion = PrecisionFusion(methods=SMALL, compensate=False)
    members = np.stack([values_of(member, inputs) for member in SMALL])
    images = (pair.fine.values, pair.coarse.values, inputs.coarse.values)
    expected, weight = oracle.weighted(members, *images, SCALE)
    summary = fusion.summarize(inputs).compute()
    # One sample covers the scene; float32 against float64.
    np.testing.assert_allclose(summary.precision.weight, weight, rtol=1e-4)
    np.testing.assert_allclose(values_of(fusion, inputs), expected, atol=1e-6)
    assert weight.max() > 1.5 / len(SMALL)  # the weights are not all alike


def test_two_pairs_are_merged_in_time_as_written_out():
    inputs = case_of(pairs=2).inputs
    first, second = inputs.pairs
    member = STARFM(radius=2)
    ahead, crossed = [], []
    for one, other in ((first, second), (second, first)):
        alone = member.predict(FusionInputs([one], inputs.coarse, SCALE))
        ahead.append((alone.reflectance.values, alone.aleatoric.values))
        crossed.append(values_of(member, FusionInputs([one], other.coarse, SCALE)))
    expected = oracle.merged_in_time(
        ahead,
        crossed,
        [pair.fine.values for pair in inputs.pairs],
        [pair.coarse.values for pair in inputs.pairs],
        inputs.coarse.values,
        SCALE,
    )
    fusion = PrecisionFusion(methods=(member,), compensate=False)
    np.testing.assert_allclose(values_of(fusion, inputs), expected, atol=2e-6)


def test_an_exact_coarse_image_opens_the_gate_and_noise_shuts_it():
    exact, noisy = (
        case_of(psf=0.0, noise=noise, seed=2, scale=4).inputs for noise in (0.0, 0.02)
    )
    opened, shut = (
        PrecisionFusion(methods=SMALL).summarize(inputs).compute().precision.gate
        for inputs in (exact, noisy)
    )
    assert (opened > 0.999).all()
    assert (shut < 0.2).all()


def test_compensation_makes_the_image_add_up():
    case = case_of(psf=0.0, noise=0.0, seed=3)
    wanted = oracle.cells(case.inputs.coarse.values, SCALE)
    misfits, errors = [], []
    for compensate in (False, True):
        fusion = PrecisionFusion(methods=SMALL, compensate=compensate)
        found = values_of(fusion, case.inputs)
        misfits.append(np.abs(oracle.cells(found, SCALE) - wanted).mean())
        errors.append(rmse(found, case))
    assert misfits[1] < 0.4 * misfits[0]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    "options",
    [
        {"abrupt": 0.0},
        {"abrupt": 0.2},
        {"gain": 1.1, "offset": 0.01},
        {"noise": 0.01},
        {"shift": 0.4},
    ],
    ids=str,
)
@pytest.mark.parametrize("pairs", [1, 2])
def test_the_mean_is_hardly_worse_than_its_best_member(options, pairs):
    members = (*SMALL, LinearInTime())
    found = []
    for seed in range(2):
        case = case_of(pairs=pairs, seed=seed, **options)
        single = [
            rmse(values_of(member, case.inputs), case)
            for member in members
            if member.pairs_needed <= pairs
        ]
        fused = rmse(values_of(PrecisionFusion(methods=members), case.inputs), case)
        found.append(fused / min(single))
    assert np.mean(found) < 1.02


def test_members_that_need_more_pairs_sit_out():
    inputs = case_of(pairs=1).inputs
    with_line = PrecisionFusion(methods=(*SMALL, LinearInTime()))
    np.testing.assert_array_equal(
        values_of(with_line, inputs), values_of(PrecisionFusion(methods=SMALL), inputs)
    )
    with pytest.raises(TooFewPairsError, match="at least 2 pairs"):
        PrecisionFusion(methods=(LinearInTime(),)).predict(inputs)


def test_the_scale_is_needed():
    inputs = case_of().inputs
    without = FusionInputs(inputs.pairs, inputs.coarse.assign_attrs(scale=None))
    with pytest.raises(MissingScaleError, match="PrecisionFusion"):
        PrecisionFusion(methods=SMALL).predict(without)


def test_the_epistemic_variance_is_how_far_members_disagree():
    inputs = case_of().inputs
    fusion = PrecisionFusion(methods=SMALL)
    weight = fusion.summarize(inputs).compute().precision.weight[:, :, None, None]
    members = np.stack([values_of(member, inputs) for member in SMALL])
    mean = (weight * members).sum(axis=0)
    expected = (weight * (members - mean) ** 2).sum(axis=0)
    found = values_of(fusion, inputs, "epistemic")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-9)
    assert (values_of(fusion, inputs, "aleatoric") > 0).all()


def test_three_methods_tell_what_each_has_of_its_own():
    rng = np.random.default_rng(0)
    truth, common = rng.normal(size=(2, 1, 200, 200))
    sizes = np.array([0.3, 1.0, 2.0])
    images = (
        truth + common + sizes[:, None, None, None] * rng.normal(size=(3, 1, 200, 200))
    )
    found = collocation(differences(np.float32(images)).mean())
    # 40,000 pixels: a variance is known to 1 %, and others' come in.
    np.testing.assert_allclose(found[0], sizes**2, atol=0.1)


def test_two_methods_share_their_difference_and_one_has_none():
    np.testing.assert_allclose(
        collocation(np.array([[[0, 3.0], [3.0, 0]]])), [[1.5, 1.5]]
    )
    np.testing.assert_array_equal(collocation(np.array([[[0.0]]])), [[0.0]])
    nan = np.nan
    alone = np.array([[[0, 3.0, nan], [3.0, 0, nan], [nan, nan, nan]]])
    np.testing.assert_allclose(collocation(alone), [[1.5, 1.5, nan]])


def test_a_prediction_that_repeats_the_noise_is_not_taken_for_exact():
    rng = np.random.default_rng(2)
    change, noise = rng.normal(size=(2, 100_000)) * [[2.0], [1.0]]
    for share in (0.0, 0.8, 1.0):  # 0.8 = 4 / (4 + 1) errs least
        error = share * (change + noise) - change
        residual = ((1 - share) * (change + noise)) ** 2
        found = error_powers(
            np.zeros((1, 1, 1)), np.full((1, 1, 1), residual.mean()), np.array([1.0])
        )
        # 100,000 numbers: a power is known to half a percent of the largest part.
        np.testing.assert_allclose(found, (error**2).mean(), atol=0.05)


def test_weights_are_precisions_and_no_method_takes_all():
    # A quarter of the mean of 1 and 3 is added to each.
    np.testing.assert_allclose(weights(np.array([[1.0, 3.0]])), [[0.7, 0.3]])
    np.testing.assert_allclose(weights(np.array([[2.0, np.nan]])), [[1.0, 0.0]])
    np.testing.assert_allclose(weights(np.array([[0.0, 0.0]])), [[0.5, 0.5]])
    np.testing.assert_allclose(weights(np.full((1, 4), np.nan)), [[0.25] * 4])
    assert weights(np.array([[0.0, 1.0]]))[0, 1] > 0.05


def test_the_noise_is_told_from_gain_offset_and_point_spread():
    rng = np.random.default_rng(1)
    fine = rng.normal(size=(3000, 3))
    blurred = fine @ [0.6, 0.3, 0.1]
    coarse = 300 + 1.3 * blurred + 0.2 * rng.normal(size=3000)
    assert coarse_noise(coarse, fine + 300) == pytest.approx(0.04, rel=0.1)
    assert coarse_noise(coarse[:8], fine[:8]) == np.inf


def test_the_gate_is_the_share_that_is_no_noise():
    residual = np.array([[[4.0, 2.0], [2.0, 4.0]]])
    even = np.array([[0.5, 0.5]])
    # Power of the mean of the two: (4 + 4 + 2 + 2) / 4 = 3.
    for noise, share in ((0.0, 1.0), (1.5, 0.5), (6.0, 0.0), (np.inf, 0.0)):
        np.testing.assert_allclose(gate(even, residual, np.array([noise])), [share])
    np.testing.assert_array_equal(gate(even, 0 * residual, np.array([0.0])), [0.0])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"methods": ()}, "one method or more"),
        ({"methods": (Persistence(), Persistence())}, "each method once"),
        ({"samples": 0}, "1 to 1000"),
    ],
)
def test_fields_out_of_range_are_refused(fields, words):
    with pytest.raises(ParameterError, match=words):
        PrecisionFusion(**fields)


@pytest.mark.parametrize("scale", [5, 6])
def test_a_member_whose_tiles_start_elsewhere_is_refused(scale):
    """The strides of a network would fall on other pixels in other tiles."""
    network = FusionUNet()
    assert network.step(scale) > scale
    method = PrecisionFusion(methods=(CoarseChange(), network))
    with pytest.raises(
        ParameterError, match=f"FusionUNet.*every {network.step(scale)}"
    ):
        method.predict(case_of(60, scale=scale).inputs)


def test_a_network_whose_strides_are_part_of_a_coarse_pixel_may_be_a_member():
    network = FusionUNet()
    scale = 2 * network.stride
    method = PrecisionFusion(methods=(CoarseChange(), network))
    method.check(case_of(4 * scale, scale=scale).inputs)


def test_members_are_named_on_the_command_line():
    made = method_from(
        "precision-fusion",
        ["methods=starfm(radius=10, classes=4), fit-fc", "compensate=false"],
    )
    members = (STARFM(radius=10, classes=4), FitFC())
    assert made == PrecisionFusion(methods=members, compensate=False)
    with pytest.raises(UnknownNameError, match="did you mean 'fit-fc'"):
        methods_from("starfm,fitfc")
    for text in ("", "starfm,", "starfm((", "starfm,,fit-fc", "starfm)"):
        with pytest.raises(ParameterError, match="separated by commas"):
            methods_from(text)
