"""The evaluations in result.json, each of one checkpoint.

`evaluation` holds, by split, that of the best checkpoint; `other_checkpoints` holds, by split and
step, those of others. In a run of an older version the last one that was made stands in
`evaluation`, whatever its checkpoint.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cnn_jax.evaluation import selection

_BEST, _OTHERS, _STEP = "evaluation", "other_checkpoints", "checkpoint_step"


def placed(
    result: Mapping[str, Any], split: str, record: dict[str, Any], best_step: int | None
) -> dict[str, Any]:
    """Returns the contents of result.json with one more evaluation.

    Args:
        result: the contents so far.
        split: the split, and the views of its images.
        record: the evaluation, which says its step.
        best_step: the step of the best checkpoint; None: not known, and the record is taken for it.
    """
    evaluations = dict(result.get(_BEST, {}))
    others = {name: dict(records) for name, records in result.get(_OTHERS, {}).items()}
    before = evaluations.pop(split, None)
    found = {**others.get(split, {}), str(record[_STEP]): record}
    if before is not None and before.get(_STEP) not in (None, record[_STEP]):
        found.setdefault(str(before[_STEP]), before)
    step = record[_STEP] if best_step is None else best_step
    best = found.pop(str(step), None)
    if best is None and before is not None and _STEP not in before:
        best = before
    if best is not None:
        evaluations[split] = best
    others.pop(split, None)
    if found:
        others[split] = found
    kept = {name: value for name, value in result.items() if name not in (_BEST, _OTHERS)}
    return kept | {_BEST: evaluations} | ({_OTHERS: others} if others else {})


def of_step(result: Mapping[str, Any], split: str, step: int | None) -> dict[str, Any] | None:
    """Returns the evaluation of the checkpoint of a step on a split, or None."""
    found = result.get(_BEST, {}).get(split)
    if found is not None and found.get(_STEP) == step:
        return found
    return result.get(_OTHERS, {}).get(split, {}).get(str(step))


def steps(result: Mapping[str, Any], split: str) -> list[int]:
    """Returns the steps whose checkpoints were evaluated on a split, ascending."""
    records = [*result.get(_OTHERS, {}).get(split, {}).values()]
    records += [result[_BEST][split]] if split in result.get(_BEST, {}) else []
    return sorted(record[_STEP] for record in records if isinstance(record.get(_STEP), int))


def best_step(history: Sequence[dict[str, Any]]) -> int | None:
    """Returns the step of the best epoch, by the same rank as the best checkpoint, or None."""
    return selection.best_of(history).get("step") if history else None
