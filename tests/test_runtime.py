"""Where the process keeps what can be made anew."""

from cnn_jax import runtime


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path / "own"))
    assert runtime.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("CNN_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert runtime.cache_dir() == tmp_path / "xdg" / "cnn_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert runtime.cache_dir() == tmp_path / "home" / ".cache" / "cnn_jax"


def test_tuning_of_a_cpu_can_be_switched_off_and_unknown_options_are_left_out(monkeypatch):
    try:
        runtime.start("cpu", cpu_tuning=False)
        assert runtime.compiler_options() == {}
        assert runtime.describe_tuning() == "none"
        options = {"xla_disable_hlo_passes": "cse_barrier_expander", "xla_no_such_option": "1"}
        monkeypatch.setattr(runtime, "_CPU_COMPILER_OPTIONS", options)
        runtime.start("cpu")
        assert runtime.compiler_options() == {"xla_disable_hlo_passes": "cse_barrier_expander"}
        assert "cse_barrier_expander" in runtime.describe_tuning()
    finally:
        monkeypatch.undo()
        runtime.start("cpu")
