"""Pruning by worth a bit: shares, company, return, config."""

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.tiny_nets import dense_net, kernels, regression
from tfqreg.pruning.rate_distortion import alive_bits, scores


def pruned_net(sparsity: float) -> keras.Model:
    return tq.quantize(
        dense_net(),
        [tq.Rule(".*", tq.Uniform(4), prune=tq.RateDistortion(sparsity))],
        activations=None,
    )


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.9])
def test_the_share_is_met_over_all_layers_and_every_kernel_keeps_one(sparsity):
    model = pruned_net(sparsity)
    model.compile("adam", "mse")
    model.fit(*regression(), epochs=30, verbose=0, callbacks=tq.callbacks_for(model))
    masks = [kernel.mask.numpy() for kernel, _ in kernels(model)]
    assert all(mask.any() for mask in masks)
    assert sum(mask.sum() for mask in masks) == pytest.approx((1 - sparsity) * 112, abs=1)
    for kernel, w in kernels(model):
        assert not kernel.encode(w)[0][~kernel.mask.numpy()].any()


def test_weights_in_company_are_worth_more_than_lone_ones():
    mask = np.zeros((8, 8), bool)
    mask[:4, :4] = mask[7, 7] = True
    bits = alive_bits(mask)
    assert bits[0, 0] < bits[0, 7] < bits[7, 7] + 3 and bits[0, 0] < bits[7, 7]
    worth = scores(np.ones((8, 8)), mask)
    assert worth[:4, :4].min() > worth[7, 7]


def test_scores_do_not_depend_on_the_scale_of_a_layer():
    w = np.random.default_rng(0).normal(size=(3, 3, 4, 5))
    mask = np.abs(w) > 0.5
    np.testing.assert_allclose(scores(w, mask), scores(10 * w, mask))
    assert alive_bits(mask).shape == (1, 1, 4, 5)


def test_a_weight_that_grows_returns_until_the_mask_is_final():
    model = pruned_net(0.5)
    pairs = kernels(model)
    prune = pairs[0][0].prune
    prune.update(pairs, 0.5)
    kernel, w = pairs[0]
    mask = kernel.mask.numpy()
    w.assign(np.where(mask, w.numpy(), 5.0))
    prune.update(pairs, 0.5)
    assert (kernel.mask.numpy() & ~mask).any()
    prune.update(pairs, None)
    assert kernel.prune.get_config()["sparsity"] == 0.5


@pytest.mark.parametrize("sparsity", [-0.1, 1.0])
def test_a_share_out_of_range_is_named(sparsity):
    with pytest.raises(ValueError, match=r"0 <= sparsity < 1\. Received: sparsity="):
        tq.RateDistortion(sparsity)
