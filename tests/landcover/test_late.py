"""Late fusion: experts of one modality each, and what is learned of them together."""

import numpy as np
import pytest

import geofuse as gf
from geofuse.errors import ParameterError
from geofuse.landcover.case import LandCoverCase
from geofuse.landcover.held_out import held_out
from geofuse.synthetic import simulate_land_cover

EXPERT = gf.EarlyFusion(
    trees="histogram", features=gf.FeatureStack(bands=True), members=1, rounds=3
)


@pytest.fixture(scope="module")
def case():
    scene = simulate_land_cover(96, seed=5, parcel=6)
    return LandCoverCase(scene.images, scene.labels)


def test_an_expert_sees_its_modality_alone(case):
    fitted = gf.LateFusion(expert=EXPERT, rule="average").fit([case])
    assert [expert.modalities[0].name for expert in fitted.experts] == list(case.images)
    sar = {"sar": case.images["sar"]}
    alone = fitted.predict(sar, outputs=("land_cover", "weight")).compute()
    expert = fitted.experts[1].predict(sar, outputs=("land_cover",)).compute()
    # One temperature for all changes no decision.
    np.testing.assert_array_equal(alone.land_cover, expert.land_cover)
    assert (alone.weight.sel(modality="sar") == 1).all()


def test_fusion_is_better_than_its_best_expert(case):
    blocks = held_out([case], seed=9)
    fitted = gf.LateFusion(expert=EXPERT, rule="product").fit(blocks.learning)
    truth = blocks.validation[0].labels.values
    at = truth >= 0

    def share(classifier, images):
        product = classifier.predict(images, outputs=("land_cover",))
        return (product.land_cover.values[at] == truth[at]).mean()

    together = share(fitted, case.images)
    each = [
        share(expert, {name: case.images[name]})
        for name, expert in zip(case.images, fitted.experts, strict=True)
    ]
    assert together > max(each)


def test_held_out_blocks_and_the_others_do_not_overlap(case):
    parts = [held_out([case], fold=fold) for fold in range(5)]
    total = sum((part.validation[0].labels.values >= 0).astype(int) for part in parts)
    assert total.max() == 1
    for part in parts:
        learned, held = (p[0].labels.values >= 0 for p in part)
        assert not (learned & held).any()


def test_a_fitted_expert_is_refused(case):
    fitted = EXPERT.fit([case])
    with pytest.raises(ParameterError, match="has not learned yet"):
        gf.LateFusion(expert=fitted)


def test_experts_that_disagree_make_the_epistemic_part(case):
    fitted = gf.LateFusion(expert=EXPERT, rule="average").fit([case])
    product = fitted.predict(case.images, outputs=("epistemic", "aleatoric")).compute()
    assert float(product.epistemic.median()) > 0.02
    alone = fitted.predict(
        {"sar": case.images["sar"]}, outputs=("epistemic",)
    ).compute()
    # One expert of one member has nobody to disagree with.
    assert float(alone.epistemic.max()) < 1e-6
