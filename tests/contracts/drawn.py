"""Learned methods with numbers drawn at random in place of what they would learn.

A contract is about a method, not about how well it learned: numbers that were never trained
find a halo that is too small just as well, and cost nothing.
"""

import dataclasses
from functools import cache

import numpy as np

from geofuse.networks.parameters import arrays_of
from geofuse.spatiotemporal.gate_inputs import all_inputs
from geofuse.spatiotemporal.kernel_net import KernelNet
from geofuse.spatiotemporal.learned import NetworkMethod
from geofuse.spatiotemporal.mixture_net import MixtureNet
from geofuse.training.weights import Weights


@cache
def drawn(method, bands=("red", "nir"), *, share=0.03, seed=0):
    """The method with random weights; what needs none as it is.

    Args:
        method: A method.
        bands: The bands that it would have learned with.
        share: How much of the last layer's numbers to take, so that predictions stay near
            the base image.
        seed: Of the numbers.
    """
    if isinstance(method, KernelNet | MixtureNet):
        rng = np.random.default_rng(seed)
        arrays = {
            name: np.asarray(array) + share * rng.standard_normal(array.shape)
            for name, array in arrays_of(method.network()).items()
        }
        if isinstance(method, MixtureNet):
            inputs = all_inputs(len(method.experts))
            arrays |= {"inputs.mean": np.zeros(inputs), "inputs.std": np.ones(inputs)}
        return dataclasses.replace(method, weights=Weights(arrays))
    if not isinstance(method, NetworkMethod):
        return method
    # Whoever predicts a change starts from 0.
    image = dataclasses.replace(method, predicts="image")
    arrays = arrays_of(image.network(len(bands), seed))
    for name, array in arrays.items():
        if name.startswith("last."):
            arrays[name] = share * array
    return dataclasses.replace(method, weights=Weights(arrays), bands=bands)
