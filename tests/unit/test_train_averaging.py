"""The running average of weights."""

from __future__ import annotations

import torch

from cellseg_engine.train.averaging import RunningAverage


def small_net(value: float) -> torch.nn.Module:
    net = torch.nn.BatchNorm1d(2)
    with torch.no_grad():
        net.weight.fill_(value)
        net.running_mean.fill_(-value)  # type: ignore[union-attr]
        net.num_batches_tracked.fill_(int(value))  # type: ignore[union-attr]
    return net


def test_it_follows_the_weights_and_forgets_the_beginning() -> None:
    average = RunningAverage(0.97)
    assert average.weights() == {}
    for step in range(400):
        average.add(small_net(1000.0 if step == 0 else 4.0 + 2 * (step % 2)))
    weights = average.weights()
    torch.testing.assert_close(weights["weight"], torch.full((2,), 5.0), atol=0.05, rtol=0)
    torch.testing.assert_close(weights["running_mean"], -weights["weight"])
    assert weights["num_batches_tracked"] == 6, "numbers of batches are no average"


def test_a_network_shows_it_for_a_while_and_a_checkpoint_keeps_it() -> None:
    average, again = RunningAverage(0.5), RunningAverage(0.5)
    for value in (1.0, 2.0, 4.0):
        average.add(small_net(value))
    again.load(average.state(), torch.device("cpu"))
    net = small_net(8.0)
    with again.shown_by(net):
        torch.testing.assert_close(net.state_dict()["weight"], average.weights()["weight"])
    assert net.state_dict()["weight"].tolist() == [8.0, 8.0]
    for one in (average, again):
        one.add(net)
    torch.testing.assert_close(again.weights(), average.weights(), rtol=0, atol=0)
