import contextlib
import dataclasses
import hashlib
import http.server
import importlib
import inspect
import logging
import multiprocessing
import os
import re
import socket
import threading
import time

import numpy as np
import pytest

from cnn_jax import models, runtime
from cnn_jax.errors import RunError
from cnn_jax.pretrained import catalogue, download

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Server:
    """A loopback server of one file that can break connections and records what it is asked."""

    def __init__(self):
        self.content = CONTENT
        self.break_after = None  # bytes sent before the connection is cut
        self.ignore_range = False
        self.delay = 0.0
        self.hang = None  # an Event: after what is sent, the connection stays open until it is set
        self.ranges = []  # the Range header of every GET
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(200)
                self.end_headers()

            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.ranges.append(wanted)
                start = 0
                if wanted and not outer.ignore_range:
                    start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # pyright: ignore
                    if start >= len(outer.content):
                        return self.send_error(416)
                    self.send_response(206)
                    total = len(outer.content)
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                else:
                    self.send_response(200)
                body = outer.content[start:]
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                time.sleep(outer.delay)
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body[: outer.break_after])
                if outer.hang is not None:
                    outer.hang.wait(60)
                self.close_connection = True

            def log_message(self, format, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}/weights.h5"


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def entry_of(url, **changes):
    entry = dataclasses.replace(
        catalogue.find("vgg16"),
        name="weights.h5",
        url=url,
        md5=hashlib.md5(CONTENT).hexdigest(),
        size=len(CONTENT),
    )
    return dataclasses.replace(entry, **changes)


def test_catalogue_is_complete_and_consistent():
    for entry in catalogue.ENTRIES:
        assert entry.url.startswith("https://")
        assert entry.url.endswith(f"/{entry.name}")
        assert re.fullmatch("md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", entry.checksum)
        bare = "notop" in entry.name or "no_top" in entry.name
        assert entry.includes_top == (not bare) == (entry.classes == 1000)
        assert entry.size is None or entry.size > 25_000_000
    assert len({entry.checksum for entry in catalogue.ENTRIES}) == len(catalogue.ENTRIES) == 34


@pytest.mark.parametrize(
    ("model", "module", "preprocessing"),
    [
        ("vgg16", "vgg16", "caffe"),
        ("vgg19", "vgg19", "caffe"),
        ("resnet50", "resnet", "caffe"),
        ("resnet101", "resnet", "caffe"),
        ("resnet152", "resnet", "caffe"),
        ("inception_v3", "inception_v3", "symmetric"),
        ("densenet121", "densenet", "torch"),
        ("densenet169", "densenet", "torch"),
        ("densenet201", "densenet", "torch"),
        ("efficientnet_b0", "efficientnet", "torch"),
        ("efficientnet_b1", "efficientnet", "torch"),
        ("efficientnet_b2", "efficientnet", "torch"),
        ("efficientnet_b3", "efficientnet", "torch"),
        ("mobilenet_v3_large", "mobilenet_v3", "symmetric"),
        ("mobilenet_v3_small", "mobilenet_v3", "symmetric"),
        ("convnext_tiny", "convnext", "torch"),
        ("convnext_small", "convnext", "torch"),
    ],
)
def test_catalogue_has_the_addresses_and_checksums_of_keras(model, module, preprocessing, keras):
    theirs = importlib.import_module(f"keras.src.applications.{module}")
    source = inspect.getsource(theirs)
    for top in (True, False):
        entry = catalogue.find(model, top)
        assert entry.preprocessing == preprocessing
        assert entry.input_size == models.REGISTRY[model].input_shape[:2]
        if module in ("efficientnet", "mobilenet_v3", "convnext"):
            size = model.rpartition("_")[2]
            of = {"efficientnet": size, "mobilenet_v3": f"{size}_224_1.0_float"}
            digest = theirs.WEIGHTS_HASHES[of.get(module, model)][not top]
            assert entry.checksum.partition(":")[2] == digest
            address = getattr(theirs, f"BASE_WEIGHT{'' if module == 'mobilenet_v3' else 'S'}_PATH")
            assert f"{address}{entry.name}" == entry.url
            continue
        if module == "resnet":
            assert theirs.WEIGHTS_HASHES[model][not top] == entry.md5
            assert f"{theirs.BASE_WEIGHTS_PATH}{entry.name}" == entry.url
            continue
        prefix = f"{model.upper()}_WEIGHT" if module == "densenet" else "WEIGHTS"
        assert getattr(theirs, f"{prefix}_PATH{'' if top else '_NO_TOP'}") == entry.url
        assert f'file_hash="{entry.md5}"' in source
        if module == "densenet":  # many sums in one file: the one behind this file's name
            assert str(entry.md5) in source.partition(f'"{entry.name}",')[2][:200]


def test_downloads_once_and_only_the_file_stays(server, tmp_path):
    entry = entry_of(server.url)
    path = download.fetch(entry)
    assert path == tmp_path / "weights" / "weights.h5"
    assert path.read_bytes() == CONTENT
    assert download.fetch(entry) == path
    assert server.ranges == [None]
    assert {p.name for p in path.parent.iterdir()} <= {"weights.h5", "weights.h5.lock"}


def test_a_broken_download_is_resumed_with_a_range_request(server):
    entry = entry_of(server.url)
    server.break_after = 1_200_000
    with pytest.raises(RunError, match=r"weights\.h5 is not in"):
        download.fetch(entry)
    part = runtime.cache_dir() / "weights" / "weights.h5.part"
    size = part.stat().st_size
    assert 0 < size <= 1_200_000
    server.break_after = None
    assert download.fetch(entry).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={size}-"]
    assert not part.exists()


def _fetch(url, report=None):
    path = download.fetch(entry_of(url))
    if report is not None:
        report.put(hashlib.md5(path.read_bytes()).hexdigest())


def test_a_file_of_unknown_size_goes_by_its_checksum(server):
    entry = entry_of(server.url, size=None)
    server.break_after = 1_200_000
    with pytest.raises(RunError, match="more expected"):
        download.fetch(entry)
    server.break_after = None
    assert download.fetch(entry).read_bytes() == CONTENT
    assert len(server.ranges) == 2
    path = download.fetch(entry)
    assert len(server.ranges) == 2
    path.rename(path.with_name("weights.h5.part"))  # stopped before it was moved to its place
    assert download.fetch(entry).read_bytes() == CONTENT
    assert len(server.ranges) == 2
    path.with_name("weights.h5.part").write_bytes(b"x" * len(CONTENT))  # of another file
    path.unlink()
    assert download.fetch(entry).read_bytes() == CONTENT
    assert server.ranges[2:] == [f"bytes={len(CONTENT)}-", None]
    with pytest.raises(RunError, match=r"elsewhere \(md5"):
        download.fetch(entry_of(server.url, name="other.h5", size=None, md5="0" * 32))


def test_a_killed_download_is_resumed(server):
    part = runtime.cache_dir() / "weights" / "weights.h5.part"
    server.break_after = 2_000_000
    server.hang = threading.Event()
    process = multiprocessing.get_context("spawn").Process(target=_fetch, args=(server.url,))
    process.start()
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= 1 << 20):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.join()
    server.hang.set()
    size = part.stat().st_size
    assert not (runtime.cache_dir() / "weights" / "weights.h5").exists()
    server.break_after = server.hang = None
    assert download.fetch(entry_of(server.url)).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={size}-"]


def test_a_server_without_ranges_starts_over(server):
    part = runtime.cache_dir() / "weights" / "weights.h5.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    server.ignore_range = True
    assert download.fetch(entry_of(server.url)).read_bytes() == CONTENT


def test_a_part_of_another_file_is_discarded(server, caplog):
    part = runtime.cache_dir() / "weights" / "weights.h5.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    assert download.fetch(entry_of(server.url)).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]
    assert "starting over" in caplog.text


def test_wrong_checksum_or_size_is_refused_and_nothing_left_in_its_place(server):
    wrong = "0" * 32
    with pytest.raises(RunError, match=f"its checksum is another.*md5:{wrong}"):
        download.fetch(entry_of(server.url, md5=wrong))
    with pytest.raises(RunError, match="has 3000000 bytes"):
        download.fetch(entry_of(server.url, size=2_999_999))
    assert not (runtime.cache_dir() / "weights" / "weights.h5").exists()


def test_sha256_is_used_where_it_is_known(server):
    right = hashlib.sha256(CONTENT).hexdigest()
    assert download.fetch(entry_of(server.url, sha256=right, md5="0" * 32)).exists()
    with pytest.raises(RunError, match=r"its checksum is another.*sha256"):
        download.fetch(entry_of(server.url, name="other.h5", sha256="0" * 64))


def test_a_damaged_file_in_the_cache_is_named_and_fetched_anew(server, caplog):
    path = download.fetch(entry_of(server.url))
    damaged = bytearray(CONTENT)
    damaged[1_000_000] ^= 1
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert download.fetch(entry_of(server.url)).read_bytes() == CONTENT
    assert str(path) in caplog.text
    assert "damaged" in caplog.text


def test_two_processes_download_once(server):
    server.delay = 0.5
    context = multiprocessing.get_context("spawn")
    report = context.Queue()
    processes = [context.Process(target=_fetch, args=(server.url, report)) for _ in range(2)]
    for process in processes:
        process.start()
    sums = [report.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert sums == [hashlib.md5(CONTENT).hexdigest()] * 2
    assert server.ranges == [None]


def test_offline_is_one_line_that_says_what_to_do(server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        entry = entry_of(f"http://127.0.0.1:{unused.getsockname()[1]}/weights.h5")
        with pytest.raises(RunError) as error:
            download.fetch(entry)
    message = str(error.value)
    assert "\n" not in message
    path = runtime.cache_dir() / "weights" / entry.name
    for part in [entry.name, entry.url, entry.md5, os.fspath(path)]:
        assert part in message
    assert "refused" in message


def test_a_silent_server_is_given_up_after_the_preflight(server, monkeypatch):
    monkeypatch.setattr(download, "_CONNECT_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        entry = entry_of(f"http://127.0.0.1:{silent.getsockname()[1]}/weights.h5")
        start = time.monotonic()
        with pytest.raises(RunError, match="could not be downloaded"):
            download.fetch(entry)
        assert time.monotonic() - start < 5


def test_a_missing_file_on_the_server_is_named(server):
    entry = entry_of("http://127.0.0.1:9/weights.h5")
    server.http.RequestHandlerClass.do_GET = lambda self: self.send_error(404)
    with pytest.raises(RunError, match="404"):
        download.fetch(dataclasses.replace(entry, url=server.url))
