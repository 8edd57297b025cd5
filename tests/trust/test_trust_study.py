"""What is made of a network's outputs: roles, record, verdicts, sentences, from arrays alone."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from cnn_jax.errors import UsageError
from cnn_jax.options import Trust
from cnn_jax.runs import shapes
from cnn_jax.trust import costs, planted, roles, sentences, study, verdicts
from cnn_jax.trust.outputs import Outputs, Seen
from cnn_jax.trust.strangers import Bank

CLASSES = ("cat", "dog", "frog")


def made(n: int, seed: int, scale: float = 2.0, groups: int | None = None) -> Outputs:
    """Returns the outputs of a network that is too sure by a factor of `scale`."""
    random = np.random.default_rng(seed)
    logits = 5 * random.normal(size=(n, 3))
    noise = random.gumbel(size=(n, 3))  # the largest sum is a draw from the softmax of the logits
    labels = (logits + noise).argmax(axis=1)
    features = np.eye(3)[labels] * 3 + random.normal(size=(n, 3)) + 5
    return Outputs(
        logits * scale,
        features.astype(np.float32),
        labels,
        [f"{seed} {i}" for i in range(n)],
        None if groups is None else [f"patient {i % groups}" for i in range(n)],
        middle=random.normal(size=(n, 4)).astype(np.float32) * (1, 2, 3, 4) + 7,
    )


TRAINED = made(500, 4)
BANK = Bank.of(TRAINED.features, TRAINED.middle)


def found(options: Trust, chosen: int = 1, n: int = 1500, **more: Any):
    given = study.Roles(made(n, 1), made(2 * n, 2), made(n, 3), "made images", chosen)
    far = dataclasses.replace(
        TRAINED.take(np.arange(50)),
        logits=15 * np.eye(3)[np.arange(50) % 3] + 9,
        features=-TRAINED.features[:50],
    )
    strange = {"far": far}
    return study.study(given, BANK, options, CLASSES, planted=strange, **more)


def whole(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the record as trust.json has it."""
    network = {"sha256": "0", "step": 3, "views": "one"}
    return json.loads(json.dumps({**record, "network": network, "arrays_sha256": "1"}))


@pytest.fixture(scope="module")
def usual():
    return found(Trust(max_error=0.1))


def test_a_record_says_what_it_measured_and_goes_through_json(usual):
    record, arrays = usual
    read = whole(record)
    assert shapes.CHECKS["trust"](read)
    assert record["claims"][0]["threshold"] is not None
    assert record["claims"][0]["bound"] <= 0.1
    assert record["report"]["error"] < 0.13
    assert record["report"]["answered"] + record["report"]["unsure"] <= 1500
    before, after = (record["calibration"][name] for name in ("before", "after"))
    assert after["nll"] < before["nll"]
    assert after["ece"] < before["ece"]
    assert after["accuracy"] == before["accuracy"]  # a temperature changes no answer
    said = " ".join(record["sentences"])
    assert "at most 10 % are wrong (with 95 % confidence, by 3,000 held-out images" in said
    assert "too sure by" in said
    assert "far 100 %" in said
    judge = verdicts.of_record(read, arrays)
    report = made(1500, 3)
    verdict = judge(report)
    assert int(verdict.answers.sum()) == record["report"]["answered"]
    right = verdict.sets[np.arange(1500), report.labels].mean()
    assert right == pytest.approx(record["sets"]["measured"]["coverage"])


def test_a_verdict_says_why_there_is_no_answer(usual):
    record, arrays = usual
    judge = verdicts.of_record(whole(record), arrays)
    logits = np.array([[90.0, 0, 0], [0.1, 0, 0], [90.0, 0, 0]])
    features = np.array([[8.0, 5, 5], [8, 5, 5], [-8, -5, -5]])
    said = judge(Seen(logits, features, middle=np.full((3, 4), 7.0)))
    assert said.answers.tolist() == [True, False, False]
    assert said.reasons[0] == ""
    assert said.reasons[1].startswith("not sure enough: 0.")
    assert said.reasons[2].startswith("unlike the training images: p = 0.00")
    assert said.p_values[2] <= 0.01 < said.p_values[0]
    assert verdicts.reason(0.931, 0.932, None) == "not sure enough: 0.931 < 0.932"


def test_the_level_is_divided_by_the_networks_chosen_among(usual):
    record, _ = found(Trust(max_error=0.1), chosen=12)
    assert record["level"] == pytest.approx(0.05 / 12)
    assert record["claims"][0]["coverage"] <= usual[0]["claims"][0]["coverage"]
    assert any("chose this network among 12" in line for line in record["sentences"])


def test_what_cannot_be_promised_is_refused_with_what_can_and_what_is_needed():
    record, _ = found(Trust(max_error=0.001), n=100)
    said = " ".join(record["sentences"])
    assert "NOT promised: there are 200 images to certify with" in said
    assert "needs at least 2,995 answers without an error" in said
    assert "Provable now:" in said
    judge = verdicts.of_record(whole(record), {})
    verdict = judge(Seen(np.array([[9.0, 0, 0]]), np.zeros((1, 3))))
    assert verdict.reasons == ("nothing could be promised",)


def test_the_gate_notices_what_is_planted_in_any_part_and_holds_its_false_alarms():
    given = study.Roles(made(1500, 1), made(1500, 2), made(1500, 3), "made images")
    usual = made(50, 8)
    kinds = {
        "tiny logits": dataclasses.replace(usual, logits=np.full((50, 3), -30.0)),
        "far": dataclasses.replace(usual, features=-usual.features),
        "odd": dataclasses.replace(usual, middle=np.full((50, 4), -20.0)),
    }
    for planted_, gate in ((kinds, "together"), ({"usual": made(400, 9)}, None)):
        record, arrays = study.study(given, BANK, Trust(), CLASSES, planted=planted_)
        assert gate in (None, record["strangers"]["gate"])
        noticed = {name: p["noticed"] for name, p in record["strangers"]["planted"].items()}
        assert noticed == dict.fromkeys(kinds, 1) if gate else noticed["usual"] < 0.04
        assert 700 < len(arrays["held_out"]) == record["strangers"]["images"] < 800
        assert record["report"]["strange"] / 1500 < 0.025


def test_without_a_convolution_the_gate_has_two_parts():
    parts = [dataclasses.replace(made(1500, seed), middle=None) for seed in (1, 2, 3)]
    strange = {"tiny": dataclasses.replace(made(50, 8), logits=np.full((50, 3), -30.0))}
    bank = Bank.of(TRAINED.features)
    given = study.Roles(parts[0], parts[1], parts[2], "made images")
    record, arrays = study.study(given, bank, Trust(), CLASSES, planted=strange)
    assert set(record["strangers"]["spread"]) == {"energy", "neighbours"}
    assert set(arrays) == {"bank", "held_out"}
    assert record["strangers"]["planted"]["tiny"]["noticed"] == 1


def test_each_class_has_a_promise_of_its_own():
    record, _ = found(Trust(max_error=0.15, per_class=True))
    assert [claim["class"] for claim in record["claims"]] == [0, 1, 2]
    assert record["claims"][0]["level"] == pytest.approx(0.05 / 3)
    assert record["sets"]["made"]["class_conditional"]
    said = " ".join(record["sentences"])
    assert "Called cat:" in said
    assert "hold together" in said


def test_costs_weigh_errors(tmp_path):
    file = tmp_path / "costs.csv"
    file.write_text("true,frog,cat,dog\ncat,1,0,1\ndog,1,1,0\nfrog,0,10,1\n")
    matrix = costs.read(file, CLASSES)
    assert matrix.tolist() == [[0, 1, 1], [1, 0, 1], [10, 1, 0]]
    record, _ = found(Trust(max_error=0.5), costs=matrix)
    assert any("an answer costs at most 0.5 in the mean" in line for line in record["sentences"])
    for content, words in [
        ("true,cat,dog\n", "have to name the classes"),
        ("a,cat,dog,frog\ncat,0,1,x\ndog,1,0,1\nfrog,1,1,0\n", "costs 'x': no number"),
        ("a,cat,dog,frog\ncat,5,1,1\ndog,1,0,1\nfrog,1,1,0\n", "a right answer costs 0"),
    ]:
        file.write_text(content)
        with pytest.raises(UsageError, match=words):
            costs.read(file, CLASSES)
    with pytest.raises(UsageError, match="cannot be read"):
        costs.read(tmp_path / "none.csv", CLASSES)


def test_of_a_group_one_image_counts():
    given = study.Roles(
        made(600, 1, groups=200), made(1200, 2, groups=300), made(600, 3, groups=200), "made"
    )
    record, _ = study.study(given, None, Trust(max_error=0.2), CLASSES)
    assert record["claims"][0]["of"] == 300
    assert record["data"]["certify"] == record["data"]["certify"] | {"images": 1200, "groups": 300}
    said = " ".join(record["sentences"])
    assert "by 300 held-out groups" in said
    assert "no training images at hand" in said


def test_roles_are_drawn_by_a_hash_and_divide_no_group():
    ids = [f"image {i}" for i in range(1000)]
    groups = [f"patient {i // 7}" for i in range(1000)]
    parts = roles.divide(ids, None, roles.QUARTERS)
    assert [len(part) for part in parts] == [250, 500, 250]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    turned = roles.divide(ids[::-1], None, roles.QUARTERS)
    assert {ids[999 - i] for i in turned[0]} == {ids[i] for i in parts[0]}
    own = [{groups[i] for i in part} for part in roles.divide(ids, groups, roles.QUARTERS)]
    assert not own[0] & own[1]
    assert not own[1] & own[2]
    labels = np.arange(1000)
    assert roles.digest(ids, labels) == roles.digest(ids[::-1], labels[::-1])
    assert roles.digest(ids, labels) != roles.digest(ids, labels[::-1])


def test_planted_images_are_like_the_given_ones_in_type_and_range():
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 8, 3)).astype(np.uint8)
    for given in (images, images.astype(np.float32) / 255):
        made_ = planted.planted(given)
        assert set(made_) == {"noise", "blank", "inverted", "blocks shuffled"}
        for some in made_.values():
            assert (some.shape, some.dtype) == (given.shape, given.dtype)
        assert (made_["inverted"] + given).std() < 1e-5
        shuffled = made_["blocks shuffled"]
        assert np.sort(shuffled, axis=None) == pytest.approx(np.sort(given, axis=None))
        assert (shuffled != given).any()


def test_percent_keeps_two_figures_of_small_shares():
    shown = [sentences.percent(x) for x in (0.831, 0.01, 0.00042, 0.0, 1.0, 0.09999)]
    assert shown == ["83.1 %", "1 %", "0.042 %", "0 %", "100 %", "10 %"]
