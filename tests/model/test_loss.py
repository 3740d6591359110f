import math

import pytest
import torch
from torch import nn

from model.loss import ClassAwareLoss, FocalLoss, class_aware_weights

SLEEP_EDF_20 = (8285, 2804, 17799, 5703, 7717)


@pytest.mark.parametrize(
    ("counts", "weights"),
    [
        (SLEEP_EDF_20, [0.3, 0.72, 0.3, 0.2, 0.3]),
        ((1000, 30, 400, 10, 2), [0.3, 1.18, 0.3, 0.67, 1.61]),
        ((1, 1, 1, 1, 1), [0.3, 0.4, 0.3, 0.2, 0.3]),
    ],
)
def test_the_weights_of_the_published_examples_come_out(counts, weights):
    assert class_aware_weights(counts) == weights


@pytest.mark.parametrize(
    ("constants", "weights"),
    [
        # M / M_1 = 42308 / 2804 = 15.0884; ln(0.3 * 15.0884) = 1.50991, times 0.3 is 0.45; all others stay at mu
        ((0.5, 1, 1.5), [0.2, 0.45, 0.2, 0.1, 0.2]),
        # ln(0.6 * 15.0884) = 2.20306, times 0.6 is 1.32; W: ln(0.4 * 5.1066) = 0.714
        ((1, 2, 3), [0.4, 1.32, 0.4, 0.2, 0.4]),
        # W: ln(0.5 * 5.1066) = 0.937; N3: ln(0.4 * 7.4186) = 1.0877, times 0.4 is 0.44; REM: ln(0.5 * 5.4824) = 1.0084
        ((2, 2.5, 3), [0.5, 1.32, 0.5, 0.44, 0.5]),
        # equal: W: 1.6304 - 0 = ln(5.1066), N1: 2.7139, N2: 0.866, N3: 2.0040, REM: 1.7015
        ((5, 5, 5), [1.63, 2.71, 1.0, 2.0, 1.7]),
    ],
)
def test_the_constants_that_were_tried_give_the_weights_worked_out_by_hand(constants, weights):
    assert class_aware_weights(SLEEP_EDF_20, *constants) == weights


def test_a_is_of_n3_and_c_of_n1_and_b_of_the_others():
    assert class_aware_weights([1] * 5, a=0.5, b=1.0, c=1.5) == [0.2, 0.3, 0.2, 0.1, 0.2]


def test_a_stage_that_never_occurs_counts_as_occurring_once():
    # mu 0.4, M 400: 0.4 ln(160) = 2.03
    assert class_aware_weights((100, 0, 100, 100, 100))[1] == 2.03
    assert class_aware_weights((0, 0, 0, 0, 0)) == [0.3, 0.4, 0.3, 0.2, 0.3]


@pytest.mark.parametrize("counts", [(1, 2, 3, 4), (1, 2, 3, 4, 5, 6), (1, -1, 1, 1, 1), ()])
def test_anything_but_five_counts_is_refused(counts):
    with pytest.raises(ValueError, match="takes 5 counts from 0 up"):
        class_aware_weights(counts)


@pytest.mark.parametrize("constants", [(0, 1, 1), (1, -1, 1), (1, 1, 0)])
def test_constants_that_are_not_above_0_are_refused(constants):
    with pytest.raises(ValueError, match="must be above 0"):
        class_aware_weights([1] * 5, *constants)


def test_the_class_aware_loss_is_the_weighted_mean_of_minus_log_p():
    # p of the true stage: 0.5 (N1, weight 0.72) and 0.25 (N3, weight 0.2)
    p = torch.tensor([[0.1, 0.5, 0.2, 0.1, 0.1], [0.25, 0.2, 0.2, 0.25, 0.1]])
    loss = ClassAwareLoss(SLEEP_EDF_20)(p.log(), torch.tensor([1, 3]))
    assert loss.item() == pytest.approx((0.72 * math.log(2) + 0.2 * math.log(4)) / (0.72 + 0.2), rel=1e-6)


def test_the_class_aware_loss_uses_its_constants():
    assert ClassAwareLoss(SLEEP_EDF_20, a=1, b=2, c=3).weight.tolist() == pytest.approx([0.4, 1.32, 0.4, 0.2, 0.4])


def test_the_focal_loss_is_the_mean_of_the_hand_worked_terms():
    # (1 - 0.5)^2 ln 2 and (1 - 0.25)^2 ln 4
    p = torch.tensor([[0.1, 0.5, 0.2, 0.1, 0.1], [0.25, 0.2, 0.2, 0.25, 0.1]])
    loss = FocalLoss(gamma=2)(p.log(), torch.tensor([1, 3]))
    assert loss.item() == pytest.approx((0.25 * math.log(2) + 0.5625 * math.log(4)) / 2, rel=1e-6)


def test_the_focal_loss_without_focus_is_the_cross_entropy():
    logits, stages = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 4, 0])
    torch.testing.assert_close(FocalLoss(gamma=0)(logits, stages), nn.CrossEntropyLoss()(logits, stages))


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 5])
def test_the_focal_loss_has_a_finite_gradient_where_the_network_is_certain(gamma):
    logits = torch.tensor([[200.0, 0, 0, 0, 0], [0, 0, 200.0, 0, 0], [9.0, 0, 0, 0, 0]], requires_grad=True)
    FocalLoss(gamma)(logits, torch.tensor([0, 0, 0])).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().sum() > 0.1


@pytest.mark.parametrize("gamma", [-0.5, float("nan")])
def test_a_focus_below_0_is_refused(gamma):
    with pytest.raises(ValueError, match="not from 0 up"):
        FocalLoss(gamma)
