"""Lists the peers, the workloads, and which peer runs which workload in which way."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

# With these glibc's allocator keeps freed memory, as `runtime.start` sets it for ours.
_MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "16000000000",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclasses.dataclass(frozen=True)
class Peer:
    """A library in one of the ways to run it.

    Attributes:
        environment: the packages that it runs with: "ours", or the name of a file of requirements.
        module: the file that runs it.
        mode: precision, channels_last and cpu_convolutions, for that file.
        variables: environment variables of its process.
        also: the kinds of workloads that it runs besides networks.
    """

    environment: str
    module: str
    mode: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    also: tuple[str, ...] = ()

    @property
    def tuned(self) -> bool:
        """Whether it runs with our settings of the allocator."""
        return self.variables.items() >= _MALLOC.items()

    @property
    def precision(self) -> str:
        """The precision: "float32" or "bfloat16"."""
        return self.mode.get("precision", "float32")


_BF16 = {"precision": "bfloat16"}
_LAST = {"channels_last": True}
_TF, _JAX = {"KERAS_BACKEND": "tensorflow"}, {"KERAS_BACKEND": "jax"}

PEERS: dict[str, Peer] = {
    "ours": Peer("ours", "ours", also=("product", "jpeg", "start", "transfer")),
    "ours-onednn": Peer("ours", "ours", {"cpu_convolutions": "onednn"}),
    "ours-xla": Peer("ours", "ours", {"cpu_convolutions": "xla"}, also=("start",)),
    "ours-bf16": Peer("ours", "ours", _BF16),
    "keras-tf": Peer("keras-tf", "with_keras", variables=_TF, also=("jpeg", "start", "transfer")),
    "keras-tf-malloc": Peer("keras-tf", "with_keras", variables=_TF | _MALLOC),
    "keras-jax": Peer("keras-jax", "with_keras", variables=_JAX, also=("start",)),
    "torch": Peer("torch", "with_torch", also=("jpeg", "start")),
    "torch-malloc": Peer("torch", "with_torch", variables=_MALLOC),
    "torch-channels-last": Peer("torch", "with_torch", _LAST),
    "torch-channels-last-malloc": Peer("torch", "with_torch", _LAST, _MALLOC),
    "torch-bf16": Peer("torch", "with_torch", _BF16),
    "torch-bf16-channels-last": Peer("torch", "with_torch", _BF16 | _LAST),
}


@dataclasses.dataclass(frozen=True)
class Workload:
    """Something to measure.

    Attributes:
        kind: train, forward, jpeg, product, start or transfer.
        model: the name of the model in `cnn_jax.models`.
        batch: images in a step.
        size: height and width of the images in pixels; rows and columns of a product's matrices.
        channels: channels of the images.
        outputs: number of logits.
        batches: number of different batches of data, which take turns.
        optimizer: adam, or sgd with Nesterov momentum 0.9.
        learning_rate: the learning rate. It is small, so rounding errors do not grow in the steps
            whose losses are compared.
        frozen: the pattern of the parameters that are not trained.
        reorders: whether the peers run a second time with max-pools before bias and ReLU, as ours
            does. VGG16 does not: bias and ReLU take little of its time, and its processes are
            large.
        target: the lowest speed of ours that is accepted, as a multiple of the speed of the fastest
            float32 peer; None: there is no target.
    """

    kind: str
    model: str = "study_cnn"
    batch: int = 50
    size: int = 32
    channels: int = 3
    outputs: int = 10
    batches: int = 8
    optimizer: str = "sgd"
    learning_rate: float = 1e-4
    frozen: str = ""
    reorders: bool = False
    target: float | None = None


_STUDY = Workload("train", optimizer="adam", reorders=True)
_WIDE = dataclasses.replace(_STUDY, model="study_cnn_wide", target=1.0)
_VGG = Workload("forward", "vgg16", 32, size=160, outputs=2, batches=2)

WORKLOADS: dict[str, Workload] = {
    "ceiling": Workload("product", size=2048),
    "study_cnn_50": dataclasses.replace(_STUDY, target=1.2),
    "study_cnn_256": dataclasses.replace(_STUDY, batch=256),
    "study_cnn_wide_50": _WIDE,
    "study_cnn_wide_256": dataclasses.replace(_WIDE, batch=256),
    "lenet5_64": Workload("train", "lenet5", 64, channels=1, optimizer="adam", reorders=True),
    "resnet18_cifar_64": Workload("train", "resnet18_cifar", 64, target=1.0),
    "airbench_256": Workload("train", "airbench", 256, batches=4, target=1.0),
    "vgg16_forward": dataclasses.replace(_VGG, target=1.0),
    "vgg16_block5": dataclasses.replace(_VGG, kind="train", frozen="block[1-4]"),
    "jpeg": Workload("jpeg", size=160, batch=1),
    "start": Workload("start", target=1.0),
    "transfer": Workload("transfer", size=160, target=9.0),
}
QUICK = ("ceiling", "study_cnn_50", "lenet5_64")


def quick(workload: Workload) -> Workload:
    """Returns the workload at a small size that takes no time and tells nothing about speed."""
    size = min(workload.size, 32)
    return dataclasses.replace(workload, batch=4, size=size, batches=2)


class Cell(NamedTuple):
    """One bar of the figure: a peer, and the variant of a workload that it runs.

    Attributes:
        peer: a key of PEERS.
        variant: "", reordered, cached, cold or warm.
    """

    peer: str
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.peer}, {self.variant}" if self.variant else self.peer


def cells(workload: Workload, peers: Iterable[str]) -> list[Cell]:
    """Returns the cells that run a workload."""
    found = []
    for name in peers:
        peer, ours = PEERS[name], PEERS[name].environment == "ours"
        if workload.kind in ("train", "forward"):
            found.append(Cell(name))
            if ours and workload.frozen:
                found.append(Cell(name, "cached"))
            if not ours and workload.reorders and peer.precision == "float32":
                found.append(Cell(name, "reordered"))
        elif workload.kind in peer.also:
            both = workload.kind == "start" and ours
            found += [Cell(name, "cold"), Cell(name, "warm")] if both else [Cell(name)]
    return found


def is_seconds(workload: Workload) -> bool:
    """Returns whether the workload is measured in seconds, not in images per second."""
    return workload.kind in ("start", "transfer")
