import pytest

from cnn_jax.reporting import scale
from cnn_jax.reporting.scale import Scale


@pytest.mark.parametrize(
    ("low", "high", "between", "around"),
    [
        (0.325, 0.991, "0.4 0.5 0.6 0.7 0.8 0.9", "0.2 0.4 0.6 0.8 1.0"),
        (
            0.923,
            0.947,
            "0.925 0.930 0.935 0.940 0.945",
            "0.92 0.93 0.94 0.95",
        ),
        (0.9, 0.9, "0.9", "0.80 0.85 0.90 0.95 1.00"),
        (0.0, 0.0, "0", "-0.50 -0.25 0.00 0.25 0.50"),
        (1, 10_000, "2,000 4,000 6,000 8,000 10,000", "0 2,000 4,000 6,000 8,000 10,000"),
        (-3.0, 1e8, "0 2e+07 4e+07 6e+07 8e+07 1e+08", None),
        (1e-7, 3e-7, "1e-07 1.5e-07 2e-07 2.5e-07 3e-07", None),
    ],
)
def test_ticks_are_round(low, high, between, around):
    assert " ".join(scale.labels(scale.round_ticks(low, high, 5))) == between
    ticks = scale.round_ticks(low, high, 5, around=True)
    assert ticks[0] <= low + 1e-4 * abs(high)
    assert ticks[-1] >= high * 0.9999
    if around is not None:
        assert " ".join(scale.labels(ticks)) == around


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1e-4, 0.1], "0.0001 0.001 0.01 0.1"),
        ([1e-8, 1], "1e-08 1e-06 0.0001 0.01 1"),
        ([2, 64], "2 5 10 20 50"),
        ([0.3, 0.5, 0.9], "0.4 0.6 0.8"),
        ([0.25, 0.25], "0.25"),
        (["mlp", None], "mlp none"),
    ],
)
def test_the_values_of_a_setting_have_round_ticks(values, labels):
    assert " ".join(Scale(values).ticks(4).values()) == labels
