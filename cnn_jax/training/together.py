"""What several processes of one run must have in common, before the first step."""

import jax

from cnn_jax import experiment, processes, text
from cnn_jax.errors import RunError, UsageError
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.training.parts import Parts


def check_directory(directory: RunDirectory | None) -> None:
    """Refuses a run directory that not all processes see.

    Raises:
        UsageError: there is such a process, or JAX's runtime was started past `cnn_jax.join`.
    """
    team = processes.team()
    if jax.process_count() > team.count:
        raise UsageError(
            f"these are {jax.process_count()} processes that cannot agree on anything: use "
            "`with cnn_jax.join():` in place of jax.distributed.initialize()"
        )
    if directory is None or team.count == 1:
        return
    there = next(x for x in (directory.path, *directory.path.parents) if x.is_dir())
    seen = processes.who_sees(type(there)(team.agree(lambda: str(there))))
    if not seen[0]:  # it may not be written, and is refused later
        return
    if not all(seen):
        index = seen.index(False)
        raise UsageError(
            f"{team.name_of(index)} does not see the directory {text.shown(directory.path)}: give "
            "one on a disk that all machines share"
        )


def check_same(parts: Parts) -> None:
    """Refuses processes that were started with other settings, or that read other images.

    Raises:
        RunError: there is such a process.
    """
    team = processes.team()
    whats = ("has other settings", "reads other images")
    mine = [experiment.to_json(parts.config), parts.data.info.digest]
    for index, theirs in enumerate(team.gather(mine)):
        for what, a, b in zip(whats, mine, theirs, strict=True):
            if a != b:
                raise RunError(
                    f"{team.name_of(index)} {what} than {team.name_of(team.index)}: start all of "
                    "them with the same command, and let all machines see the same data"
                )
