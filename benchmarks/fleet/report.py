"""The results of `benchmarks/hosts.py` as a page."""

from typing import Any

from cnn_jax.reporting import tables


def page(
    found: dict[str, Any], batch_size: int, devices: int, rows: int, workers: int
) -> list[str]:
    """Returns the lines of the page.

    Args:
        found: the results.
        batch_size: over all hosts, where the order was simulated.
        devices: of each host.
        rows: images that each host decodes for a step, where skew was simulated.
        workers: processes of each host that decode them.
    """
    decode, first = found["decode"], found["orders"][0]
    lines = [
        "# Many hosts, simulated\n",
        f"Made on {found['date']} by `python benchmarks/hosts.py` at commit {found['git_commit']}, "
        f"Python {found['python']}, {found['processor']}, {found['seconds']} s of processor time. "
        "What follows from it: [SCALE.md](../SCALE.md).\n",
        "## Order and reading\n",
        f"An epoch of {found['examples']:,} examples in batches of {batch_size:,}, over hosts of "
        f"{devices} devices. Every host draws the order by itself. Sizes of files are drawn from "
        f"those of {decode['images']:,} real photographs (cats_vs_dogs), "
        f"{decode['bytes'] / 1024:.0f} KiB each on average: {first['all'] / 1e9:.1f} GB.\n",
        tables.markdown(
            [
                [
                    one["hosts"],
                    "yes" if one["once"] else "NO",
                    "yes" if one["same"] else "NO",
                    "yes" if one["parts"] else "NO",
                    *(f"{one[name] / 1e9:.3f}" for name in ("least", "mean", "most")),
                ]
                for one in found["orders"]
            ],
            [
                "hosts",
                "each example once",
                "batches of one host, also resumed in the middle",
                "random parts of one host",
                "least GB a host reads",
                "mean",
                "most",
            ],
        ),
        "\n## Waiting for the slowest\n",
        f"Each host decodes {rows} images for a step, with {workers} processes, and a step begins "
        "when all hosts have theirs. The time of each image is drawn from those of "
        f"{decode['images']:,} photographs: {decode['mean']:.2f} ms on average, standard deviation "
        f"{decode['std']:.2f}, one in a hundred over {decode['p99']:.1f}, the longest "
        f"{decode['most']:.1f}. The table has the share of the devices' own rate that is reached: "
        "where they take as long for a step as decoding does on average, and half as long again; "
        "with 0, 2 or 8 batches decoded ahead, and with 2 and one host at half the speed.\n",
        tables.markdown(
            [
                [one["hosts"], f"{one['slack']:g}"]
                + [f"{one[name]:.3f}" for name in ("0", "2", "8", "slow")]
                for one in found["skews"]
            ],
            ["hosts", "a step / decoding", "0 ahead", "2 ahead", "8 ahead", "one slow host"],
        ),
        "\n## Checkpoints\n",
        "A state that every device holds in full, saved and restored by real processes of this "
        "machine through `runs/checkpoints.py`: bytes that each wrote, and seconds of processor "
        "time.\n",
        tables.markdown(
            [
                [
                    one["processes"],
                    " + ".join(f"{size / 1e6:.0f}" for size in one["bytes"]),
                    " + ".join(f"{seconds:.2f}" for seconds in one["save"]),
                    " + ".join(f"{seconds:.2f}" for seconds in one["restore"]),
                ]
                for one in found["written"]
            ],
            ["processes", "MB written by each", "s to save", "s to restore"],
        ),
        "\nWhat a checkpoint holds, with one momentum; hosts that resume read it whole, each.\n",
        tables.markdown(
            [
                [
                    one["model"],
                    f"{one['parameters'] / 1e6:.1f}",
                    f"{one['bytes'] / 1e6:.0f}",
                    f"{1024 * one['bytes'] / 1e9:.0f}",
                ]
                for one in found["states"]
            ],
            ["model", "million parameters", "MB", "GB read by 1,024 hosts"],
        ),
    ]
    met = found["met"][-1]
    lines += [
        "\n## Meeting\n",
        f"Threads in place of processes meet at process 0 over real connections of this machine: "
        f"{met['hosts']:,} of them in {met['seconds']:.2f} s of processor time, all together.",
    ]
    return lines
