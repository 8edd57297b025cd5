"""The simulation of many hosts: a small version of it, and that it can fail."""

import os
import resource

import numpy as np
import pytest

from benchmarks.fleet import measured, simulation


@pytest.mark.parametrize(("hosts", "devices"), [(1, 1), (1, 8), (4, 2), (64, 1)])
def test_hosts_share_out_an_epoch_and_have_the_batches_of_one(hosts, devices):
    found = simulation.order(hosts, examples=1000, batch_size=64, devices=devices, epoch=2)
    assert found["once"]
    assert found["same"]
    read = np.bincount(found["owner"], minlength=hosts)
    assert read.sum() == 1000
    assert read.max() - read.min() <= 64 // hosts


@pytest.mark.parametrize(("hosts", "devices"), [(1, 8), (2, 1), (64, 1)])
def test_hosts_cut_the_random_parts_of_one(hosts, devices):
    assert simulation.streamed(hosts, 1000, 128, devices, step=11)


def test_parts_that_depend_on_the_place_in_a_chunk_are_found_out(monkeypatch):
    right = simulation.Chunks._parts
    monkeypatch.setattr(
        simulation.Chunks,
        "_parts",
        lambda self, step, rows, positions: right(self, step, rows, np.arange(len(positions))),
    )
    monkeypatch.setattr(simulation, "rows", lambda *_: [slice(0, 50), slice(50, 128)])
    assert not simulation.streamed(2, 1000, 128, 1, step=11)


def test_hosts_that_read_the_rows_of_others_are_found_out(monkeypatch):
    monkeypatch.setattr(simulation, "rows", lambda *_: [slice(0, 40), slice(32, 64)])
    assert not simulation.order(2, examples=640, batch_size=64, devices=1, epoch=0)["once"]


def test_an_order_that_a_host_draws_for_itself_is_found_out(monkeypatch):
    class Own(simulation.TrainBatches):
        drawn = 0

        def __init__(self, seed, *arguments, **more):
            Own.drawn += 1
            super().__init__(seed + Own.drawn, *arguments, **more)

    monkeypatch.setattr(simulation, "TrainBatches", Own)
    assert not simulation.order(2, examples=640, batch_size=64, devices=1, epoch=0)["same"]


def test_a_step_waits_for_the_slowest_host():
    even, uneven = np.full(10, 0.1), np.array([0.05] * 9 + [0.55])
    # 8 images by 2 processes take 0.4 s: ahead of the step, or before it where none is ahead.
    assert simulation.skew(even, 16, 8, 2, step_seconds=0.5, ahead=2) == pytest.approx(1, abs=0.01)
    assert simulation.skew(even, 16, 8, 2, step_seconds=0.5, ahead=0) == pytest.approx(5 / 9)
    slow = simulation.skew(even, 16, 8, 2, step_seconds=0.4, ahead=2, slow=2.0)
    assert slow == pytest.approx(0.5, abs=0.01)
    rates = [simulation.skew(uneven, hosts, 8, 2, 0.5, ahead=2) for hosts in (1, 16, 256)]
    assert rates == sorted(rates, reverse=True)
    assert simulation.skew(uneven, 16, 8, 2, 0.5, ahead=8) > rates[1]


def test_process_0_opens_as_many_files_as_it_has_connections():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, before[1]))
    try:
        assert measured.met(32)["hosts"] == 32
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
