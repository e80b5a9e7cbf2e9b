import numpy as np
import pytest

from geofuse.errors import (
    MissingScaleError,
    NotFittedError,
    OutOfRangeWarning,
    ParameterError,
)
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.baselines import (
    CoarseChange,
    CoarseImage,
    LinearInTime,
    Persistence,
)
from geofuse.spatiotemporal.fusion_unet import FusionUNet
from geofuse.spatiotemporal.mixture_net import MixtureNet
from geofuse.spatiotemporal.mixture_training import first_parameters, gate_samples
from geofuse.synthetic import simulate_case
from geofuse.training.loop import Training
from geofuse.training.weights import Weights

EXPERTS = (Persistence(), CoarseChange(upsample="bicubic"), CoarseImage())
QUICK = Training(steps=60, batch=8, learning_rate=1e-2, validate_every=20)


def case_of(seed=0, **options):
    given = {"bands": ("red", "nir"), "scale": 8, **options}
    return simulate_case(64, seed=seed, **given)


def unfitted(**options):
    given = {"experts": EXPERTS, "width": 8, "depth": 1, "heads": 2, **options}
    return MixtureNet(weights=None, training=QUICK, **given)


def before_training(method, case):
    """The method with the weights that training starts from."""
    samples = gate_samples(method, case, pixels=200).compute()
    stacked = type(samples[0])(
        *(np.stack(field) for field in zip(*samples, strict=True))
    )
    return method.replaced(Weights(first_parameters(method, stacked)))


def rmse(product, reference):
    return float(np.sqrt(((product.reflectance - reference) ** 2).mean()))


def test_before_training_it_is_the_plain_mean_of_its_experts():
    case = case_of()
    method = before_training(unfitted(), case)
    product = method.predict(case.inputs).compute()
    each = [e.predict(case.inputs).reflectance.values for e in EXPERTS]
    np.testing.assert_allclose(
        product.reflectance.values, np.mean(each, axis=0), atol=1e-6
    )
    assert (product.epistemic == 0).all()
    assert (product.aleatoric > 0).all()


def test_fitting_helps_on_scenes_of_the_kind_it_was_fitted_on():
    cases = [case_of(seed) for seed in range(6)]
    start = before_training(unfitted(), cases[0])
    fitted = unfitted().fit(cases[:5])
    test = cases[5]
    assert rmse(fitted.predict(test.inputs), test.reference) < rmse(
        start.predict(test.inputs), test.reference
    )


def test_fit_leaves_the_method_unfitted_and_is_the_same_for_the_same_seed():
    cases = [case_of(0)]
    method = unfitted()
    first, again = method.fit(cases, seed=3), method.fit(cases, seed=3)
    assert first == again
    assert first.weights == again.weights
    assert method.weights is None


def test_gates_are_weights_of_the_experts():
    case = case_of(clouds=0.2)
    gates = unfitted().fit([case]).gates(case.inputs).compute()
    assert gates.dims == ("expert", "band", "y", "x")
    assert list(gates.expert.values)[:2] == ["Persistence()", repr(EXPERTS[1])]
    total = gates.sum("expert").values
    some = np.isfinite(case.inputs.pairs[0].fine.values)
    np.testing.assert_allclose(total[some], 1.0, atol=1e-5)
    assert (gates >= 0).all()


def test_an_expert_without_a_prediction_takes_no_part():
    """Where two experts are out, the third's prediction stands alone."""
    case = case_of(scale=8)
    method = before_training(unfitted(experts=(CoarseImage(),)), case)
    alone = method.predict(case.inputs, outputs=("reflectance",)).reflectance
    image = CoarseImage().predict(case.inputs, outputs=("reflectance",)).reflectance
    np.testing.assert_allclose(alone, image, atol=1e-6)


def test_two_pairs_are_merged_by_their_variances():
    case = simulate_case(64, bands=("red",), scale=8, pairs=2, seed=1)
    method = before_training(unfitted(), case)
    both = method.predict(case.inputs).reflectance.values
    each = [
        method.predict(
            FusionInputs([pair], case.inputs.coarse, case.inputs.scale)
        ).reflectance.values
        for pair in case.inputs.pairs
    ]
    low, high = np.min(each, axis=0), np.max(each, axis=0)
    assert ((both >= low - 1e-5) & (both <= high + 1e-5)).all()


def test_a_method_without_weights_says_how_to_fit_it():
    with pytest.raises(NotFittedError, match=r"fit\(cases"):
        unfitted().predict(case_of().inputs)


def test_weights_of_other_experts_are_refused():
    case = case_of()
    fitted = before_training(unfitted(), case)
    other = unfitted(experts=EXPERTS[:2]).replaced(fitted.weights)
    with pytest.raises(ParameterError, match="other settings"):
        other.predict(case.inputs).compute()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"experts": ()}, "one expert or more"),
        ({"experts": (LinearInTime(),)}, "one pair"),
        ({"experts": (Persistence(), Persistence())}, "each once"),
        ({"width": 0}, "width of 1 to 1024"),
        ({"heads": 65}, "heads of 1 to 64"),
    ],
)
def test_settings_out_of_range_are_refused(options, words):
    with pytest.raises(ParameterError, match=words):
        unfitted(**options)


def test_cases_without_a_valid_pixel_are_refused():
    case = case_of()
    empty = type(case)(case.inputs, case.reference.where(False))
    with pytest.raises(ParameterError, match="valid pixels"):
        unfitted().fit([empty])


def test_the_scale_must_be_known():
    case = case_of()
    inputs = FusionInputs(case.inputs.pairs, case.inputs.coarse)
    with pytest.raises(MissingScaleError):
        before_training(unfitted(), case).predict(inputs)


def test_shipped_weights_warn_of_a_scale_that_they_were_not_trained_on():
    shipped = simulate_case(80, bands=("red",), scale=40).inputs
    with pytest.warns(OutOfRangeWarning, match="4 to 30, found 40"):
        MixtureNet().predict(shipped)
    MixtureNet().check(simulate_case(64, bands=("red",), scale=8).inputs)
    # Of weights of one's own nothing is known.
    case = case_of(scale=32)
    before_training(unfitted(), case).check(case.inputs)


def test_an_expert_whose_tiles_start_elsewhere_is_refused():
    case = case_of(scale=5)
    expert = FusionUNet()
    assert expert.step(5) % 5 == 0
    assert expert.step(5) > 5
    with pytest.raises(ParameterError, match="leave it out"):
        unfitted(experts=(expert, Persistence())).fit([case])
