"""Networks written from their papers with NumPy alone, on arrays (y, x, channel)."""

import numpy as np


def convolution(image, layer):
    """A convolution, a product for each offset in its window; 0 beyond the edge."""
    kernel, bias = layer["kernel"].astype(np.float64), layer["bias"]
    side = kernel.shape[0]
    reach = side // 2
    rows, columns, _ = image.shape
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)))
    result = np.zeros((rows, columns, kernel.shape[-1])) + bias
    for i in range(side):
        for j in range(side):
            result += padded[i : i + rows, j : j + columns] @ kernel[i, j]
    return result


def relu(values):
    return np.maximum(values, 0)


def leaky(values):
    return np.where(values > 0, values, 0.01 * values)


def layers_of(arrays, prefix):
    """The arrays below a name, by what is left of theirs."""
    return {
        name[len(prefix) + 1 :]: np.asarray(array)
        for name, array in arrays.items()
        if name.startswith(prefix + ".")
    }


def edcstfn(arrays, fine, base, coarse):
    """Tan et al. (2019): two encoders, their features added, a decoder."""

    def encoder(prefix, values):
        for number in range(3):
            values = convolution(values, layers_of(arrays, f"{prefix}.layers.{number}"))
            values = relu(values) if number < 2 else values
        return values

    change = encoder("residual", np.concatenate([base, fine, coarse], axis=-1))
    features = relu(encoder("encoder", fine)) + change
    for number in range(2):
        features = relu(convolution(features, layers_of(arrays, f"down.{number}")))
    return convolution(features, layers_of(arrays, "last"))


def ganstfm(arrays, levels, fine, coarse):
    """Tan et al. (2021): two streams, the lateral one added to the trunk at every level."""

    def layer(values, name):
        return convolution(values, layers_of(arrays, name))

    def scaled(values, name):
        return values * arrays[f"{name}.gain"] + arrays[f"{name}.offset"]

    def norm(values, name, first):
        if first:
            return scaled(values, name)
        mean = values.mean(axis=-1, keepdims=True)
        std = np.sqrt(values.var(axis=-1, keepdims=True) + 1e-5)
        return scaled((values - mean) / std, f"{name}.scale")

    lateral, trunk = coarse, fine
    for number in range(levels):
        here, first = f"encoder.{number}", number == 0
        lateral = layer(layer(lateral, f"{here}.transform"), f"{here}.transform_out")
        lateral = leaky(lateral)
        own = layer(leaky(norm(trunk, f"{here}.norm", first)), f"{here}.residual")
        own = leaky(norm(own, f"{here}.norm_out", first))
        trunk = layer(own, f"{here}.residual_out") + lateral
    features = np.concatenate([lateral, trunk], axis=-1)
    for number in range(levels):
        here = f"decoder.{number}"
        own = layer(leaky(layer(features, f"{here}.residual")), f"{here}.residual_out")
        features = own + layer(features, f"{here}.transform")
    return layer(features, "last")


def attention(query, key, value, heads, nearness):
    """Softmax of q . k / sqrt(size) + b, head by head, pixel by pixel.

    Args:
        query: (place, channel); `key` and `value` likewise.
        heads: Number of heads.
        nearness: b(head, i, j).

    Returns:
        The weights (head, place, place), and the weighted values (place, channel).
    """
    places, channels = query.shape
    size = channels // heads
    weights = np.zeros((heads, places, places))
    result = np.zeros((places, channels))
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(places):
            logits = [
                query[i, part] @ key[j, part] / np.sqrt(size) + nearness(head, i, j)
                for j in range(places)
            ]
            weights[head, i] = np.exp(logits - np.max(logits))
            weights[head, i] /= weights[head, i].sum()
            result[i, part] = weights[head, i] @ value[:, part]
    return weights, result
