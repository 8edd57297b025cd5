"""What names of files such as "cat.0.jpg" tell of classes."""

import collections
import re
from collections.abc import Iterable

_NUMBERED = re.compile(r"(.*?[^\d._ -])([._ -]*)\d")
_MOST_PREFIXES = 5


def propose_label(names: Iterable[str]) -> str | None:
    r"""Returns a regular expression that tells the classes of files such as "cat.0.jpg".

    Args:
        names: the files' names.

    Returns:
        One whose first group is the class in every name, such as "^(cat|dog)\."; None where the
        names do not begin with a few words, each of several files.
    """
    names = list(names)
    matches = [_NUMBERED.match(name) for name in names]
    counts = collections.Counter(match[1] for match in matches if match)
    if None in matches or len(counts) < 2 or min(counts.values()) < 2:
        return None
    if len(counts) > max(_MOST_PREFIXES, len(names) // 4):  # rather numbers with letters in them
        return None
    separators = {match[2] for match in matches if match}
    if len(counts) > _MOST_PREFIXES or len(separators) > 1:
        return r"^(.*?[^\d._ -])[._ -]*\d"
    words = "|".join(map(re.escape, sorted(counts, key=lambda word: (-len(word), word))))
    return rf"^({words}){re.escape(separators.pop())}" + r"\d"
