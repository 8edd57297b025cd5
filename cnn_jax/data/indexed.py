"""Images that no memory holds: what is asked for is read, `images[3]` or `images[10:20]`."""

import abc
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class Lazy(NDArrayOperatorsMixin, abc.ABC):
    """An array [n, ...] whose rows are read when they are asked for.

    What else an array can do, `images / 255` or `images.max()`, reads them all.

    Attributes:
        shape: as that of an array.
        dtype: likewise.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @abc.abstractmethod
    def __getitem__(self, key: Any) -> np.ndarray:
        """Reads rows, and of them what further indices say, as an array does."""

    @abc.abstractmethod
    def rows(self, indices: np.ndarray) -> "Lazy":
        """Returns some of the rows; nothing is read."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        inputs = tuple(np.asarray(each) if isinstance(each, Lazy) else each for each in inputs)
        return getattr(ufunc, method)(*inputs, **options)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows that are read when asked for cannot be had without a copy")
        return self[:].astype(dtype or self.dtype, copy=False)

    @property
    def ndim(self) -> int:
        """As that of an array."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of values, as that of an array."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """The bytes that an array of them would take."""
        return self.size * self.dtype.itemsize


class Indexed(Lazy):
    """The rows of a memory map at some indices.

    Args:
        array: [m, ...], a memory map.
        index: int [n], which of its rows.
    """

    def __init__(self, array: np.ndarray, index: np.ndarray):
        self._array, self._index = array, np.asarray(index)
        self.shape = (len(self._index), *array.shape[1:])
        self.dtype = array.dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        if rows is Ellipsis:
            return self._array[self._index][(..., *rest)]
        return self._array[(self._index[rows], *rest)]

    def rows(self, indices: np.ndarray) -> "Indexed":
        """Returns some of the rows; nothing is read."""
        return Indexed(self._array, self._index[indices])
