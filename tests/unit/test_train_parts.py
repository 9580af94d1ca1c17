"""Recipes, losses, sampling, annotations: the parts of a training that need no disk."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cellseg_engine.core.flows import labels_to_flows
from cellseg_engine.errors import SettingsError
from cellseg_engine.nets.unet import ResidualUNet
from cellseg_engine.train.annotations import clean_labels
from cellseg_engine.train.arithmetic import make_optimizer
from cellseg_engine.train.augment import apply_view, draw_view
from cellseg_engine.train.batches import BatchMaker
from cellseg_engine.train.dataset import TrainingImage
from cellseg_engine.train.faults import TrainingDataError
from cellseg_engine.train.losses import losses
from cellseg_engine.train.prepare import SMALLEST_VIEW_PX, view_px
from cellseg_engine.train.recipes import load_recipe, recipe_names
from cellseg_engine.train.sampling import epoch_order, hold_out, parse_weights, view_rng
from cellseg_engine.train.size_fit import choose_ridge, leave_groups_out, ridge_regression
from tests.unit.plain import blobs

# -- recipes -----------------------------------------------------------------------------------


def rates(name: str, **changes: object) -> list[float]:
    recipe = load_recipe(name, **changes)
    return [recipe.rate(epoch) for epoch in range(recipe.epochs)]


def test_the_schedule_of_the_first_paper() -> None:
    found = rates("cellpose1")
    np.testing.assert_allclose(found[:10], np.linspace(0, 0.2, 10))
    assert found[10:400] == [0.2] * 390
    for n in range(10):
        np.testing.assert_allclose(found[400 + 10 * n : 410 + 10 * n], 0.2 / 2 ** (n + 1))
    assert len(found) == 500


def test_the_schedules_of_the_other_papers() -> None:
    finetune = rates("cellpose2-finetune")
    assert (finetune[249], finetune[250], finetune[255], finetune[299]) == (
        0.1,
        0.05,
        0.025,
        0.1 / 2**10,
    )
    online = rates("cellpose2-online")
    assert len(online) == 100 and online[0] == 0 and set(online[9:]) == {0.1}
    later = rates("cellpose-2.2.3")
    assert (later[199], later[200], later[210], later[299]) == (0.1, 0.05, 0.025, 0.1 / 2**10)


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("epochs", [1, 7, 50, 1000])
def test_other_lengths_go_through_the_same_schedule(name: str, epochs: int) -> None:
    recipe, found = load_recipe(name), rates(name, epochs=epochs)
    assert len(found) == epochs
    assert min(found) >= 0 and max(found) <= recipe.learning_rate
    assert max(found) == recipe.learning_rate
    if epochs >= 50 and recipe.halve_from_epoch:
        start = recipe.halve_from_epoch / recipe.epochs
        assert found[int((start - 0.02) * epochs)] == recipe.learning_rate
        assert found[-1] <= recipe.learning_rate / 16


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("cellpose9", {}, "no recipe 'cellpose9'; the recipes are cellpose1"),
        ("quick", {"epochs": -1}, "epochs = -1 is not allowed"),
        ("quick", {"batch_size": 0}, "batch_size = 0 is not allowed"),
        ("quick", {"learning_rate": float("nan")}, "learning_rate = nan is not allowed"),
        ("quick", {"optimizer": "adamw"}, "is for sgd, not for adamw"),
        ("quick", {"pace": 3}, "pace is not a value of a recipe"),
    ],
)
def test_impossible_recipes(name: str, changes: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_recipe(name, **changes)


# -- one step ----------------------------------------------------------------------------------


def image(name: str = "a", kind: str = "k", group: str = "", seed: int = 0) -> TrainingImage:
    labels = blobs(64, 24, seed)
    pixels = np.random.default_rng(seed).normal(size=(1, 64, 64)).astype(np.float32)
    flows = labels_to_flows(labels)
    return TrainingImage(name, kind, group or name, pixels, labels, flows, 18.0, 6, name)


def plain_losses(fields: np.ndarray, flows: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Mean squared difference to 5 x flows, halved, and cross-entropy, pixel by pixel."""
    squares = 0.0
    entropy = 0.0
    for n, y, x in np.ndindex(inside.shape):
        for axis in range(2):
            squares += (float(fields[n, axis, y, x]) - 5 * float(flows[n, axis, y, x])) ** 2
        chance = 1 / (1 + np.exp(-float(fields[n, 2, y, x])))
        entropy -= np.log(chance if inside[n, y, x] else 1 - chance)
    return squares / (2 * inside.size) / 2, entropy / inside.size


def test_the_losses_of_a_step_are_those_of_the_plain_sum() -> None:
    images = [image("a"), image("b", seed=1)]
    maker = BatchMaker(images, 2, 30.0, 32, 2, seed=5)
    order = epoch_order(images, {}, n_wanted=2, seed=5, epoch=3)
    batch = maker.make(order, epoch=3, step=0)
    torch.manual_seed(0)
    net = ResidualUNet(2)
    fields, _ = net(torch.from_numpy(batch.pixels))
    found = losses(fields, torch.from_numpy(batch.targets))
    flows, inside = [], []
    for place, index in enumerate(order):
        view = draw_view(view_rng(5, 3, place), common_scale=30 / 18.0, crop_px=32)
        _, labels, turned = apply_view(
            view, images[index].pixels, images[index].labels, images[index].flows
        )
        flows.append(turned)
        inside.append(labels > 0)
    expected = plain_losses(fields.detach().numpy(), np.stack(flows), np.stack(inside))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)


def test_one_step_of_sgd_is_the_textbook_one() -> None:
    recipe = load_recipe("cellpose1")
    torch.manual_seed(0)
    net = ResidualUNet(1)
    weight = dict(net.named_parameters())["output.2.weight"]
    before = weight.detach().clone()
    optimizer = make_optimizer(net, recipe)
    speed = torch.zeros_like(before)
    for _ in range(2):
        fields, _ = net(torch.randn(2, 1, 16, 16))
        optimizer.zero_grad()
        losses(fields, torch.rand(2, 3, 16, 16)).sum().backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        speed = 0.9 * speed + weight.grad + 1e-5 * before
        expected = before - 0.2 * speed
        optimizer.step()
        torch.testing.assert_close(weight.detach(), expected)
        before = expected


# -- order and held-out images -----------------------------------------------------------------


def test_every_image_once_in_whole_batches() -> None:
    images = [image(str(n)) for n in range(10)]
    wanted = load_recipe("cellpose2-finetune", batch_size=4).images_wanted(len(images))
    order = epoch_order(images, {}, n_wanted=wanted, seed=0, epoch=0)
    assert len(order) == 12
    assert set(order) == set(range(10))
    again = epoch_order(images, {}, n_wanted=wanted, seed=0, epoch=0)
    np.testing.assert_array_equal(order, again)
    later = epoch_order(images, {}, n_wanted=wanted, seed=0, epoch=1)
    assert not np.array_equal(order, later)


def test_few_images_are_drawn_again_to_fill_a_batch() -> None:
    wanted = load_recipe("cellpose2-finetune").images_wanted(2)
    order = epoch_order([image(), image("b")], {}, n_wanted=wanted, seed=0, epoch=0)
    assert sorted(order) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_corrections_are_seen_more_often_than_there_are_images() -> None:
    recipe = load_recipe("cellpose2-online")
    assert [recipe.images_wanted(n) for n in (1, 9, 32, 35)] == [32, 32, 32, 40]
    assert load_recipe("cellpose2-online", images_per_epoch=8).images_wanted(9) == 8


def test_views_are_no_larger_than_all_images() -> None:
    small = image()  # 18 px objects
    side = max(small.labels.shape) * 30 / 18
    assert view_px(224, [small], 30.0) == max(SMALLEST_VIEW_PX, 8 * math.ceil(side / 8))
    assert view_px(32, [small], 30.0) == 32
    large = replace(small, labels=np.zeros((900, 20), np.int32))
    assert view_px(224, [small, large], 30.0) == 224


def test_kinds_are_drawn_by_their_weights_whatever_their_number() -> None:
    images = [image(str(n), "many") for n in range(50)] + [image("x", "few")]
    weights = parse_weights("40/60", ["many", "few"])
    order = epoch_order(images, weights, n_wanted=8000, seed=0, epoch=0)
    assert np.mean(order == 50) == pytest.approx(0.6, abs=0.03)


def test_weights_can_be_given_by_name_with_commas_in_them() -> None:
    kinds = ["fluo", "E. coli, DAPI"]
    assert parse_weights("E. coli, DAPI=25,fluo=75", kinds) == {"fluo": 0.75, "E. coli, DAPI": 0.25}
    assert parse_weights("", kinds) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("60/20/20", "gives 3 numbers for the 2 kinds of images a, b"),
        ("a=60", "names a; the kinds of images are a, b"),
        ("a=60,c=40", "names a, c; the kinds"),
        ("a=60,b=0", "positive numbers"),
        ("60/x", "positive numbers"),
    ],
)
def test_weights_that_do_not_fit(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_weights(text, ["a", "b"])


@given(
    groups=st.lists(st.integers(1, 6), min_size=2, max_size=30),
    seed=st.integers(0, 1000),
    share=st.floats(0.05, 0.4),
)
def test_groups_are_never_split(groups: list[int], seed: int, share: float) -> None:
    one = image()
    images = [
        TrainingImage(f"{g}.{n}", "k", str(g), one.pixels, one.labels, one.flows, 18.0, 6, "")
        for g, size in enumerate(groups)
        for n in range(size)
    ]
    training, held_out = hold_out(images, share, seed)
    assert len(training) + len(held_out) == len(images)
    assert not {i.group for i in training} & {i.group for i in held_out}
    assert training and held_out
    last = max(groups)
    assert len(held_out) <= share * len(images) + last


def test_each_kind_is_held_out_and_a_single_image_is_not() -> None:
    images = [image(f"{kind}{n}", kind) for kind in "abc" for n in range(20)] + [image("z", "z")]
    training, held_out = hold_out(images, 0.12, 0)
    assert {i.kind for i in held_out} == {"a", "b", "c"}
    assert len(held_out) == 9
    assert any(i.kind == "z" for i in training)


@pytest.mark.parametrize("seed", range(12))
def test_a_large_group_is_trained_on(seed: int) -> None:
    images = [image(f"b{n}", group="big") for n in range(50)]
    images += [image(f"s{n}", group=f"small{n}") for n in range(3)]
    training, held_out = hold_out(images, None, seed)
    assert {i.group for i in held_out} == {"small0", "small1", "small2"}
    assert len(training) == 50


@pytest.mark.parametrize("seed", range(12))
def test_of_large_groups_only_the_smallest_is_held_out(seed: int) -> None:
    images = [image(f"{g}{n}", group=g) for g, size in (("a", 9), ("b", 8)) for n in range(size)]
    assert {i.group for i in hold_out(images, None, seed)[1]} == {"b"}


@pytest.mark.parametrize("seed", range(12))
def test_no_kind_is_held_out_as_a_whole(seed: int) -> None:
    """Group g0 has all images of the kind B, and groups g1 and g2 all of the kind C."""
    images = [image(f"a{n}", "A", f"g{n}") for n in range(8)]
    images += [image(f"b{n}", "B", "g0") for n in range(3)]
    images += [image(f"c{n}", "C", f"g{1 + n}") for n in range(2)]
    training, held_out = hold_out(images, None, seed)
    assert {i.kind for i in training} == {"A", "B", "C"}
    assert held_out and "g0" not in {i.group for i in held_out}
    assert not {i.group for i in training} & {i.group for i in held_out}


def test_one_group_cannot_be_held_out_unless_nothing_has_to_be() -> None:
    images = [image("a", group="g"), image("b", group="g")]
    with pytest.raises(TrainingDataError, match=r"2 annotated images \(of 1 group\).*share 0"):
        hold_out(images, 0.12, 0)
    assert hold_out(images, 0, 0) == (images, [])


# -- labels ------------------------------------------------------------------------------------

SCATTERED = np.array(
    [
        [7, 7, 0, 0, 7, 7],
        [7, 7, 0, 0, 7, 7],
        [0, 0, 0, 0, 0, 0],
        [3, 0, 70000, 0, 9, 0],
        [0, 0, 70000, 0, 0, 9],
    ],
    np.int32,
)


def test_disjoint_labels_are_split_or_kept_and_reported() -> None:
    split = clean_labels(SCATTERED, "split")
    assert split.n_objects == 4  # 7 twice, 70000, 9 (its pixels touch at a corner)
    assert split.labels[0, 0] != split.labels[0, 4] > 0
    assert split.remarks == (
        "1 disjoint labels split into their parts: 7",
        "1 labels of a single pixel left out",
    )
    kept = clean_labels(SCATTERED, "keep")
    assert kept.n_objects == 3
    assert kept.labels[0, 0] == kept.labels[0, 4] > 0
    assert kept.remarks[0] == "1 disjoint labels kept as they are: 7"
    for cleaned in (split, kept):
        assert cleaned.labels[3, 0] == 0
        assert set(np.unique(cleaned.labels)) == set(range(cleaned.n_objects + 1))


def test_touching_labels_stay_apart() -> None:
    labels = np.repeat(np.array([[1, 1, 2, 2]], np.int32), 3, axis=0)
    assert clean_labels(labels, "split").n_objects == 2
    assert clean_labels(np.zeros((3, 3), np.int32), "split").n_objects == 0


# -- size model --------------------------------------------------------------------------------


def test_the_ridge_regression_finds_a_linear_law() -> None:
    rng = np.random.default_rng(0)
    styles = rng.normal(size=(2000, 256))
    truth = rng.normal(size=256) / 50
    logs = styles @ truth + np.log(30) + 0.3
    model = ridge_regression(styles, logs, 1.0, 30.0)
    estimates = np.log([model.predict(style) for style in styles])
    assert np.abs(estimates - logs).max() < 0.01
    # A penalty without end leaves the mean.
    flat = ridge_regression(styles, logs, 1e12, 30.0)
    assert flat.predict(styles[0]) == pytest.approx(np.exp(logs.mean()), rel=1e-3)


def test_the_ridge_regression_solves_its_own_equation() -> None:
    rng = np.random.default_rng(1)
    styles, logs = rng.normal(size=(40, 256)), rng.normal(3, 0.5, 40)
    model = ridge_regression(styles, logs, 0.7, 17.0)
    centred, target = styles - styles.mean(0), logs - logs.mean()
    # The gradient of |y - X a|^2 + 0.7 |a|^2 vanishes.
    gradient = centred.T @ (centred @ model.coefficients - target) + 0.7 * model.coefficients
    assert np.abs(gradient).max() < 1e-10
    assert model.log_offset + np.log(17) == pytest.approx(logs.mean())


def test_without_held_out_images_groups_of_training_images_choose_the_ridge() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat([f"image {n}" for n in range(7)], 8)
    styles, logs = rng.normal(size=(56, 30)), rng.normal(3, 0.5, 56)
    looks = list(leave_groups_out(styles, logs, groups))
    assert len(looks) == 5
    tested = np.concatenate([test_logs for _, _, _, test_logs in looks])
    np.testing.assert_array_equal(np.sort(tested), np.sort(logs))
    for fit_styles, fit_logs, test_styles, _ in looks:
        assert len(fit_styles) == len(fit_logs) == 56 - len(test_styles)
        assert len(test_styles) % 8 == 0  # all views of an image are on one side
    # What is learnt from noise is worth nothing elsewhere: the strongest penalty is best.
    assert choose_ridge((1e3, 1e-3), looks, 17.0)[0] == 1e3
    linear = 3 + styles @ (rng.normal(size=30) / 10)
    seen = list(leave_groups_out(styles, linear, groups))
    assert choose_ridge((1e5, 1e-3), seen, 17.0)[0] == 1e-3
    assert list(leave_groups_out(styles, logs, np.repeat("one", 56))) == []
