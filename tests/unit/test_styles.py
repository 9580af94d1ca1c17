"""Which model is suggested for a style, and when the style counts as unfamiliar."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellseg_engine.train.drawings import draw_strange
from cellseg_engine.zoo.styles import (
    StyleIndex,
    check_network,
    read_index,
    score_index,
    suggest_model,
)

LENGTH = 256


def cloud(direction: int, n: int, spread: float = 0.01, seed: int = 0) -> np.ndarray:
    """Unit vectors around an axis."""
    points = np.zeros((n, LENGTH))
    points[:, direction] = 1
    points += np.random.default_rng([seed, direction]).normal(0, spread, points.shape)
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def make_index(counts: dict[str, int], groups: tuple[str, ...] = ()) -> StyleIndex:
    """Give an index of clouds, one for each kind; the model of a kind is its name in capitals."""
    kinds = tuple(kind for kind, n in counts.items() for _ in range(n))
    names = tuple(f"{kind}/{number}" for kind, n in counts.items() for number in range(n))
    styles = np.concatenate([cloud(place, n) for place, n in enumerate(counts.values())])
    models = {kind: kind.upper() for kind in counts}
    return StyleIndex(styles, names, kinds, groups or names, models, "net", ("abc",))


def test_the_five_nearest_decide() -> None:
    index = make_index({"fluo": 20, "phase": 20})
    for kind, place in (("fluo", 0), ("phase", 1)):
        suggestion = suggest_model(index, cloud(place, 1, seed=5)[0])
        assert suggestion.model == kind.upper()
        assert [one.kind for one in suggestion.neighbours] == [kind] * 5
        assert suggestion.reason.startswith("5 of the 5 training images")
        assert suggestion.reason.endswith(f"of the kind {kind}")
        distances = [one.distance for one in suggestion.neighbours]
        assert distances == sorted(distances)
        assert suggestion.distance == pytest.approx(np.mean(distances))


def test_the_nearest_neighbours_are_those_of_the_whole_table() -> None:
    index = make_index({"a": 30, "b": 30})
    style = cloud(0, 1, spread=0.1, seed=9)[0]
    by_hand = np.linalg.norm(index.styles.astype(float) - style.astype(float), axis=1)
    expected = [index.names[n] for n in np.argsort(by_hand)[:5]]
    neighbours = suggest_model(index, style).neighbours
    assert [one.name for one in neighbours] == expected
    np.testing.assert_allclose(
        [one.distance for one in neighbours], np.sort(by_hand)[:5], atol=1e-6
    )


def test_kinds_that_share_a_model_vote_together() -> None:
    index = make_index({"grey": 2, "stained": 2, "phase": 3})
    index.models["grey"] = index.models["stained"] = "NUCLEI"  # type: ignore[index]
    between = cloud(0, 1)[0] + cloud(1, 1)[0] + 0.9 * cloud(2, 1)[0]
    suggestion = suggest_model(index, between / np.linalg.norm(between))
    assert suggestion.model == "NUCLEI"
    assert suggestion.reason.startswith("4 of the 5")
    assert "kinds " in suggestion.reason


def test_of_equal_votes_the_nearest_wins() -> None:
    index = make_index({"far": 2, "near": 2})
    style = 0.5 * cloud(0, 1)[0] + cloud(1, 1)[0]
    assert suggest_model(index, style / np.linalg.norm(style)).model == "NEAR"


def test_what_looks_like_nothing_known_is_unfamiliar() -> None:
    index = make_index({"fluo": 20, "phase": 20})
    assert suggest_model(index, cloud(0, 1, seed=7)[0]).warnings == ()
    strange = suggest_model(index, cloud(17, 1)[0])
    assert not strange.is_familiar
    (warning,) = strange.warnings
    assert "looks unlike" in warning
    assert f"{index.familiar_distance():.3f}" in warning
    assert strange.as_record()["is_familiar"] is False


def test_the_familiar_distance_is_the_99th_percentile_between_groups() -> None:
    index = make_index({"fluo": 40})
    by_hand = []
    for n, style in enumerate(index.styles.astype(float)):
        distances = np.linalg.norm(np.delete(index.styles, n, axis=0).astype(float) - style, axis=1)
        by_hand.append(np.sort(distances)[:5].mean())
    assert index.familiar_distance() == pytest.approx(np.percentile(by_hand, 99), abs=1e-6)


def test_copies_of_an_image_do_not_make_the_familiar_distance_small() -> None:
    single = make_index({"fluo": 12})
    copies = StyleIndex(
        np.repeat(single.styles, 6, axis=0),
        tuple(f"{name} {n}" for name in single.names for n in range(6)),
        ("fluo",) * 72,
        tuple(name for name in single.names for _ in range(6)),
        single.models,
        "net",
        ("abc",),
    )
    assert copies.familiar_distance() > 0.5 * single.familiar_distance()


def test_a_kind_of_a_single_image_does_not_make_everything_familiar() -> None:
    with_rare = make_index({"fluo": 20, "rare": 1})
    assert with_rare.familiar_distance() < 0.5


def test_an_index_of_one_group_knows_no_distance() -> None:
    index = make_index({"fluo": 3}, ("same",) * 3)
    assert index.familiar_distance() == float("inf")
    assert suggest_model(index, cloud(3, 1)[0]).is_familiar


def test_each_kind_has_its_distance_if_there_are_enough() -> None:
    styles = np.concatenate([cloud(0, 30, 0.003), cloud(1, 30, 0.02), cloud(2, 19, 0.001)])
    kinds = ("near",) * 30 + ("wide",) * 30 + ("few",) * 19
    names = tuple(map(str, range(79)))
    models = {"near": "A", "wide": "B", "few": "C"}
    index = StyleIndex(styles, names, kinds, names, models, "net", ("abc",))
    assert index.familiar_distance("near") < 0.3 * index.familiar_distance("wide")
    assert index.familiar_distance("few") == index.familiar_distance()
    between = cloud(0, 1, 0.02, seed=3)[0]
    assert not suggest_model(index, between).is_familiar
    assert suggest_model(index, cloud(1, 1, 0.02, seed=3)[0]).is_familiar


def test_what_is_nearer_to_drawn_pictures_is_unfamiliar() -> None:
    index = replace(make_index({"fluo": 20}), strange=cloud(0, 6, 0.02, seed=8))
    familiar = suggest_model(index, cloud(0, 1, seed=7)[0])
    assert (familiar.n_strange, familiar.is_familiar) == (0, True)
    strange = suggest_model(replace(index, styles=cloud(0, 20, 0.03)), index.strange[0])
    assert strange.is_near
    assert strange.n_strange >= 3
    assert not strange.is_familiar
    assert "drawn pictures without cells" in strange.warnings[0]


def test_drawn_pictures_are_always_the_same_and_differ() -> None:
    pictures = [draw_strange(number) for number in range(6)]
    assert all(picture.shape == (256, 256) for picture in pictures)
    assert all(picture.dtype == np.uint8 and picture.std() > 5 for picture in pictures)
    assert np.array_equal(pictures[3], draw_strange(3))
    assert len({picture.tobytes() for picture in pictures}) == 6


def test_images_of_other_groups_score_the_index() -> None:
    assert score_index(make_index({"fluo": 10, "phase": 10})) == {
        "fluo": (10, 10),
        "phase": (10, 10),
    }
    # One slide of each kind: without it nothing of its kind is left.
    one_slide = make_index({"fluo": 6, "phase": 6}, ("slide 1",) * 6 + ("slide 2",) * 6)
    assert score_index(one_slide) == {"fluo": (0, 6), "phase": (0, 6)}


def test_the_index_that_is_shipped_was_made_by_the_network_that_is_shipped() -> None:
    check_network(read_index())
