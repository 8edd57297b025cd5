"""The command `page`."""

import json
import re

import numpy as np


def test_it_writes_one_file_of_a_run(main, trained, tmp_path, capsys):
    assert main("page", f"--workdir={trained[0]}", "--output=here.html") == 0
    page = (tmp_path / "here.html").read_text()
    said = capsys.readouterr().out
    assert "with weights as float16" in said
    assert "written    here.html" in said
    assert f"open       {(tmp_path / 'here.html').as_uri()}" in said
    assert len(page) < 1_000_000
    assert "http://" not in re.sub(r'"http://www.w3.org/2000/svg"', "", page)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    (contents,) = re.findall(r'id="contents">(.*?)</script>', page, re.DOTALL)
    held = json.loads(contents)
    assert held["network"]["live"]
    assert held["network"]["cost"]["largest"] < 1e-3
    assert len(held["images"]) == 24
    assert np.bincount([image["label"] for image in held["images"]]).min() >= 2


def test_wrong_use_is_one_line(main, trained, tmp_path, capsys):
    where = f"--workdir={trained[0]}"
    assert main("page") == 2
    assert "page needs --workdir" in capsys.readouterr().err
    assert main("page", where, "--output=page.pdf") == 2
    assert "--output takes a file that ends in .html" in capsys.readouterr().err
    assert main("page", where, "--page.advise=nowhere") == 2
    assert "--page.advise=nowhere is not the directory of an advise" in capsys.readouterr().err
    assert main("page", where, "--page.baseline=nowhere") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
