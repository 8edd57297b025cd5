"""What a page leaves out that names files."""

from cnn_jax.reporting import private


def test_lines_that_may_name_a_file_are_left_out_and_counted():
    lines = ["in /home/ada", "NOT promised for benign/unclear: too few", "all is well", "~/x"]
    assert private.lines(lines, ["benign/unclear", "benign"]) == [
        "NOT promised for benign/unclear: too few",
        "all is well",
        "2 lines left out, which may name a file or a folder.",
    ]
    assert private.lines(lines[1:2]) == ["1 line left out, which may name a file or a folder."]
    assert private.lines(["a", "b"]) == ["a", "b"]
