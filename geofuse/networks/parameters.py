"""The parameters of a Flax module as arrays by name, and back.

    arrays = arrays_of(network)                        {"layers.0.kernel": ...}
    network = network_of(partial(Gate, 40, rngs=...), arrays)

Only parameters are kept: what they mean is the module's code, and how to build it are the
fields of the method that holds them.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flax import nnx

from geofuse.errors import ParameterError

Module = TypeVar("Module", bound=nnx.Module)


def arrays_of(network: nnx.Module) -> dict[str, Any]:
    """The parameters of a network by their place in it, in the order of their names."""
    flat = nnx.to_flat_state(nnx.state(network, nnx.Param))
    named = {".".join(map(str, path)): variable[...] for path, variable in flat}
    return dict(sorted(named.items()))


def network_of(make: Callable[[], Module], arrays: Mapping[str, Any]) -> Module:
    """A network with these parameters.

    Args:
        make: Builds such a network; its own parameters are not computed.
        arrays: Parameters by name, as `arrays_of` gives them; NumPy arrays or tracers.

    Raises:
        ParameterError: Names or shapes are not those of the network.
    """
    graph, state = nnx.split(nnx.eval_shape(make), nnx.Param)
    flat = {".".join(map(str, path)): (path, v) for path, v in nnx.to_flat_state(state)}
    expected = {name: tuple(v.shape) for name, (_, v) in flat.items()}
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    if expected != found:
        odd = sorted(
            name
            for name in expected.keys() | found.keys()
            if expected.get(name) != found.get(name)
        )
        raise ParameterError(
            f"expected the parameters of this network, found others: {odd[0]} is "
            f"{found.get(odd[0], 'missing')}, expected {expected.get(odd[0], 'none')}; "
            "the weights belong to other settings, or to another version of geofuse"
        )
    filled = [(path, v.replace(arrays[name])) for name, (path, v) in flat.items()]
    return nnx.merge(graph, nnx.from_flat_state(filled))
