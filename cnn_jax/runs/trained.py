"""A trained network as a value: what `train` returns, and `load` makes of a run directory."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import cpu, distributed, text
from cnn_jax.assembly import Assembly
from cnn_jax.data import Data, DataInfo, Split, arrays
from cnn_jax.data.feeding import Feed
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import findings, metrics
from cnn_jax.evaluation.evaluator import Evaluation, Evaluator
from cnn_jax.evaluation.predictions import Images, Predictions, image_batches
from cnn_jax.experiment import Experiment
from cnn_jax.models import capture
from cnn_jax.runs import changes, trusting
from cnn_jax.runs import trusted as trust_file
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.trusted import Trusted


class Run:
    """A trained network, with all that belongs to it.

    Args:
        config: the experiment.
        assembly: the model, its preprocessing and its loss.
        info: what is known of the data it was trained on.
        history: one record an epoch.
        variables: returns (variables, step): those with the best validation accuracy, unless
            another checkpoint was asked for. It is called once, when they are first wanted.
        directory: the run directory, or None.
        data: the data, where they are at hand.
        checkpoint: which checkpoint was asked for: "best", "last", or a step.

    Attributes:
        experiment: all settings.
        assembly: the model behind the interface of a Classifier, its preprocessing and its loss.
        data_info: classes, image shape, channel statistics and sizes of the splits.
        history: one record an epoch: losses, accuracies, learning rate, seconds.
        directory: the run directory, or None.
        checkpoint: which checkpoint was asked for.
        assembly: the model, its preprocessing and its loss.
    """

    def __init__(
        self,
        config: Experiment,
        assembly: Assembly,
        info: DataInfo,
        history: list[dict[str, Any]],
        variables: Callable[[], tuple[dict[str, Any], int]],
        directory: Path | None = None,
        data: Data | None = None,
        checkpoint: str = "best",
    ):
        self.experiment = config
        self.data_info = info
        self.history = history
        self.directory = directory
        self.checkpoint = checkpoint
        self.assembly, self._load, self._data = assembly, variables, data
        self._jitted: dict[Any, Any] = {}

    def __repr__(self) -> str:
        where = "" if self.directory is None else f" in {text.shown(self.directory)}"
        epochs = text.plural(len(self.history), "epoch")
        return f"<Run of {self.experiment.model.name} on {self.data_info.name}, {epochs}{where}>"

    @property
    def model(self) -> nn.Module:
        """The Linen module: `run.model.apply(run.variables, x)` takes preprocessed images."""
        return getattr(self.assembly.model, "module", self.assembly.model)

    @functools.cached_property
    def _loaded(self) -> tuple[dict[str, Any], int]:
        variables, step = self._load()
        return distributed.put(variables, distributed.replicated(distributed.make_mesh())), step

    @property
    def variables(self) -> dict[str, Any]:
        """The model's variables: params (the moving average where there is one), batch_stats."""
        return self._loaded[0]

    @property
    def step(self) -> int:
        """The step at which the variables were saved."""
        return self._loaded[1]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the outputs."""
        return self.data_info.class_names

    def preprocess(self, images: jax.Array | np.ndarray) -> jax.Array:
        """Scales stored images as the model takes them, without augmentation."""
        return self.assembly.preprocess(jnp.asarray(images), None)

    def logits(self, images: Images) -> np.ndarray:
        """Returns the logits of images, float32 [n, outputs].

        Args:
            images: an array as the run's data are stored, uint8 [n, height, width, channels] of the
                run's height and width, or one such image; or paths of image files, which are
                resized.

        Raises:
            UsageError: the images have another shape or type than the run's.
            RunError: a file cannot be read as an image.
        """

        def forward(variables: Any, images: jax.Array) -> Any:
            return self.assembly.model.apply(variables, self.preprocess(images))

        return self.map("logits", forward, images)

    def predict(self, images: Images) -> Predictions:
        """Classifies images; see `logits` for the argument and the errors.

        Where `trust` promised something of this checkpoint, the probabilities are calibrated, and
        each image has a set, an answer or none, and a p-value.
        """
        if self.trusted is not None:
            return trusting.predict(self, images, self.trusted)

        def forward(variables: Any, images: jax.Array) -> Any:
            logits: Any = self.assembly.model.apply(variables, self.preprocess(images))
            return metrics.probabilities(logits, self.assembly.multilabel)

        p = self.map("probabilities", forward, images)
        if self.data_info.multilabel:
            said = (p >= findings.THRESHOLD).astype(np.uint8)
            sets = tuple(findings.named(row, self.class_names) for row in said)
            return Predictions(sets, said, p, self.class_names)
        labels = np.argsort(-p, axis=1, kind="stable")[:, 0]
        names = self.class_names
        return Predictions(tuple(names[i] for i in labels), labels, p, names)

    def features(self, images: Images, layer: str | None = None) -> np.ndarray:
        """Returns the output of a layer, float32 [n, ...].

        Args:
            images: as those of `logits`.
            layer: a stage of the backbone, such as "block4"; or the path of any module, such as
                "backbone/block4/conv1" or, in a module of your own, "Conv_0". None: the features
                that the head takes.

        Raises:
            UsageError: there is no such layer, or as `logits`.
        """
        model, names = self.assembly.model, self.assembly.model.stage_names
        if layer is None or layer in names:
            stop = None if layer is None else names.index(layer) + 1

            def forward(variables: Any, images: jax.Array) -> Any:
                x = self.preprocess(images)
                found: Any = model.apply(variables, x, stop=stop, method=model.forward_features)
                return found.astype(jnp.float32)

        else:

            def forward(variables: Any, images: jax.Array) -> Any:
                x = self.preprocess(images)
                return capture.outputs(model, variables, x)[layer].astype(jnp.float32)

            shape = (1, *self.assembly.image_shape)
            image = jax.ShapeDtypeStruct(shape, self.assembly.image_dtype)
            known = jax.eval_shape(
                lambda v, x: capture.outputs(model, v, self.preprocess(x)), self.variables, image
            )
            if layer not in known:
                there = [*filter(None, names), *known]
                tip = text.did_you_mean(str(layer), there)
                raise UsageError(f"there is no layer {layer!r}{tip}; there are {', '.join(there)}")
        return self.map(("features", layer), forward, images)

    @functools.cached_property
    def trusted(self) -> Trusted | None:
        """What `trust` found of this checkpoint; None: nothing, or of another one (a warning)."""
        return trust_file.of_run(self)

    def trust(self, images: Any = None, labels: Any = None, **settings: Any) -> Trusted:
        """Calibrates the network, and certifies how much it may answer on its own.

        From then on `predict` goes by it. The command `trust` also writes it beside the checkpoint.

        Args:
            images: a Split of labelled images that nobody has used, or images; None: of the run's
                own data those that chose the network least.
            labels: of images.
            **settings: those of `cnn_jax.options.Trust`, such as `max_error=0.02`; and `views`.

        Raises:
            UsageError: a setting is wrong, or there are too few images.
        """
        self.trusted = trusting.of_run(self, images, labels, settings)
        return self.trusted

    def evaluate(
        self,
        split: str | Split | tuple[Any, Any] | Any = None,
        labels: Any = None,
        *,
        views: str = "one",
        batch_size: int | None = None,
    ) -> Evaluation:
        """Measures the network on a split.

        Args:
            split: "test", "validation" or "train" of the run's own data, which are loaded where
                they are not at hand; a Split; (images, labels); or images. None: test where the
                data have it, else validation.
            labels: the labels of images.
            views: "one", "mirror" or "mirror_translate": over which views of each image logits are
                averaged.
            batch_size: examples in one step; None: the experiment's.

        Returns:
            Loss, accuracy, confusion matrix, and the probabilities of every example.

        Raises:
            UsageError: there is no such split, or the images are not like the run's.
            RunError: the data are not those that the run was trained on.
        """
        given = split if labels is None else (split, labels)
        if given is None or isinstance(given, str):
            chosen = self.split(given)
        elif isinstance(given, Split):
            chosen = arrays.make_split(given.images, given.labels, self.data_info, given.ids)
        elif isinstance(given, tuple | list) and len(given) == 2:
            chosen = arrays.make_split(given[0], given[1], like=self.data_info)
        else:
            raise UsageError(
                "give the name of a split, a Split such as data.test, or (images, labels), not "
                f"{type(given).__name__}"
            )
        mesh = distributed.make_mesh()
        size = self.experiment.dataset.eval_batch_size if batch_size is None else batch_size
        if size < 1:
            raise UsageError(f"batch_size must be at least 1, not {size}")
        key = ("evaluate", size, views)
        if key not in self._jitted:
            self._jitted[key] = Evaluator(self.assembly, size, mesh, views=views)
        feed = Feed(chosen, mesh, self.experiment.dataset.resident_limit)
        return self._jitted[key](self.variables, feed)

    @functools.cached_property
    def data(self) -> Data:
        """The run's own data with all their splits, loaded where they are not at hand."""
        if self._data is None or "test" not in self._data.splits:
            self._data = self._load_data()
        return self._data

    def split(self, name: str | None = None) -> Split:
        """Returns a split of the run's own data; see `evaluate`."""
        at_hand = self._data is not None and (name or "test") in self._data.splits
        own = self._data if at_hand else self.data
        assert own is not None
        return own.splits[self.split_name(name)]

    def split_name(self, name: str | None = None) -> str:
        """Returns the name itself; of None "test" where the data have it, else "validation"."""
        splits = self._data.splits if self._data is not None else self.data_info.sizes
        name = name or ("test" if "test" in splits else "validation")
        if name not in splits:
            raise UsageError(
                f"{self.data_info.name} has no split {name!r}, only {', '.join(splits)}"
            )
        return name

    def _load_data(self) -> Data:
        if self._data is not None and self._data.section is None:  # given as arrays
            return self._data
        directory = None if self.directory is None else RunDirectory(self.directory)
        section = changes.with_channels_of(self.experiment.dataset, self.data_info)
        return changes.load_data(directory, section, multilabel=self.data_info.multilabel)

    def map(self, key: Any, forward: Callable[..., Any], images: Images) -> Any:
        """Applies a function to images in batches, the last one filled up.

        Args:
            key: the name of the function, which is compiled once.
            forward: (variables, stored images) -> arrays over the images, one or a tuple.
            images: as those of `logits`.
        """
        if key not in self._jitted:
            self._jitted[key] = jax.jit(forward, compiler_options=cpu.compiler_options())
        jitted, found = self._jitted[key], []
        most = self.experiment.dataset.max_megapixels
        for part, count in image_batches(images, self.data_info, most):
            said = jitted(self.variables, part)
            found.append(jax.tree.map(lambda x, count=count: np.asarray(x)[:count], said))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *found)
