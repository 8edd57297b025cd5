"""The section of a model card that says how good a network is."""

from collections.abc import Mapping
from typing import Any

from cnn_jax.export.facts import MOST_CLASSES, UNKNOWN, Facts, plain
from cnn_jax.reporting import evaluations, tables


def of(facts: Facts) -> list[str]:
    """Returns the section, in Markdown."""
    found = ["## How good it is"]
    if not facts.evaluations:
        said = f"{UNKNOWN}this checkpoint was not evaluated on images that did not choose it."
        if facts.chosen:
            said += " The validation accuracy above chose it, and is too high by that."
        if not facts.trained:
            said = f"{UNKNOWN}it was not evaluated here."
        found.append(said)
    for split, record in facts.evaluations.items():
        found += _evaluation(split, record)
    return found


def _evaluation(split: str, record: Mapping[str, Any]) -> list[str]:
    ends = record.get("intervals", {})
    names = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "average_precision")
    names += ("quadratic_kappa",)
    rows = [
        [name.replace("_", " "), evaluations.with_interval(record[name], ends.get(name))]
        for name in names
        if isinstance(record.get(name), float)
    ]
    for name in ("sensitivity", "specificity"):
        if isinstance(record.get(name), float):
            shown = evaluations.with_interval(record[name], record["rate_intervals"].get(name))
            rows.append([f"{name} ({record.get('positive')})", shown])
    found = [
        f"### On {split}: {record['examples']:,} images",
        "With intervals of 95 %.",
        tables.markdown(rows, ["metric", "value"], "ll"),
    ]
    share = record.get("largest_class_share")
    if isinstance(share, float):
        found.append(f"Whoever always says the largest class is right in {share:.1%}.")
    if never := record.get("never_predicted"):
        found.append(f"Never said: {', '.join(map(plain, never[:MOST_CLASSES]))}.")
    classes = record.get("per_class") or []
    if classes:
        rows = [
            [
                plain(str(each.get("class", name))),
                each.get("examples"),
                *(
                    evaluations.with_interval(
                        each.get(key), each.get("intervals", {}).get(key), digits=3
                    )
                    for key in ("recall", "precision")
                ),
            ]
            for name, each in zip(record["class_names"], classes, strict=False)
        ]
        rows = rows[:MOST_CLASSES]
        head = ["class", "images", "found (recall)", "right where said (precision)"]
        found.append(tables.markdown(rows, head, "lrll"))
    return found
