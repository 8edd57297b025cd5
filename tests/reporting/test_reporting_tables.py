import pytest

from cnn_jax.reporting import tables


def test_numbers_go_right_and_words_left():
    rows = [["conv", "1,234", 0.5, "12.0%"], ["dense_long", "7", -1e-05, "5%"]]
    assert tables.table(rows, ["layer", "parameters", "loss", "share"]).splitlines() == [
        "layer       parameters    loss  share",
        "----------  ----------  ------  -----",
        "conv             1,234     0.5  12.0%",
        "dense_long           7  -1e-05     5%",
    ]


def test_a_column_with_one_word_goes_left_and_empty_cells_do_not_count():
    lines = tables.table([["1", None], ["two", "333"], ["", "4"]], ["a", "b"]).splitlines()
    assert lines == ["a      b", "---  ---", "1", "two  333", "       4"]


def test_alignment_may_be_given():
    text = tables.table([["1", "ab"], ["22", "c"]], ["n", "name"], align="lr")
    assert text.splitlines()[2:] == ["1     ab", "22     c"]


def test_no_rows():
    assert tables.table([], ["a", "bc"]) == "a  bc\n-  --"
    assert tables.markdown([], ["a", "bc"]) == "| a | bc |\n| --- | --- |"


def test_markdown_escapes_what_would_break_it():
    text = tables.markdown([["a|b", 1], ["c\nd", 22]], ["name", "n|m"])
    assert text.splitlines() == [
        "| name | n\\|m |",
        "| --- | ---: |",
        "| a\\|b | 1 |",
        "| c\\nd | 22 |",
    ]


def test_a_line_break_in_a_cell_does_not_break_the_table():
    assert tables.table([["a\nb\x1b[0m"]], ["file"]).splitlines()[2:] == [r"a\nb\x1b[0m"]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="1 cells under 2 headers"):
        tables.table([["a"]], ["a", "b"])
