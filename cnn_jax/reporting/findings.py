"""An evaluation of several findings in one image, as people read it."""

from collections.abc import Mapping
from typing import Any

from cnn_jax.reporting import tables
from cnn_jax.reporting.evaluations import with_interval


def lines(record: Mapping[str, Any]) -> list[str]:
    """Returns the figures of the whole split, as lines, of a record of several findings."""
    ends = record["intervals"]
    by = f", by {record['groups']:,} groups" if "groups" in record else ""
    all_right = with_interval(record["all_right"], ends["all_right"])
    found = [f"findings   {record['accuracy']:.4f} are right; of {all_right} of the images all{by}"]
    if record["auc"] is not None:
        areas = (
            f"AUC {with_interval(record['auc'], ends['auc'])}, average precision "
            f"{with_interval(record['average_precision'], ends['average_precision'])}"
        )
        found.append(f"ranking    {areas} (mean over the findings, each against its absence)")
    return found


def table(record: Mapping[str, Any]) -> str:
    """Returns the table of the findings, with the rates at their operating points, if any."""
    headers = ["finding", "images", "sensitivity", "specificity", "PPV", "AUC"]
    points = any("operating_point" in each for each in record["per_class"])
    if points:
        headers += ["threshold", "sensitivity there", "specificity there"]
    rows = []
    for each in record["per_class"]:
        ends = each["intervals"]
        keys = ("recall", "specificity", "precision", "auc")
        row = [each["class"], f"{each['examples']:,}"]
        row += [with_interval(each[key], ends[key], 3) for key in keys]
        if points:
            point = each.get("operating_point")
            row.append("-" if point is None else f"{point['threshold']:.4g}")
            for key in ("sensitivity", "specificity"):
                own = ({}, None) if point is None else (point, point["rate_intervals"][key])
                row.append(with_interval(own[0].get(key), own[1], 3))
        rows.append(row)
    return tables.table(rows, headers, "lr" + "l" * (len(headers) - 2))
