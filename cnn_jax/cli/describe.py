"""The command `describe`: configuration, layers, data, steps and memory, without training."""

from cnn_jax import data as data_sets
from cnn_jax import experiment, runtime
from cnn_jax.cli.invocation import Invocation
from cnn_jax.cli.train import the_experiment
from cnn_jax.describe import block_diagram, layer_table
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.training import costs, memory
from cnn_jax.training.parts import Parts, prepare

# Networks with more layers are printed by their blocks.
_MOST_LAYERS = 40


def run_command(invocation: Invocation) -> int:
    """Prints what a run would be and returns the exit code."""
    if invocation.workdir is not None and not (invocation.config or invocation.overrides):
        RunDirectory(invocation.workdir).check_exists()  # nothing else says what to describe
    config = the_experiment(invocation)
    data = data_sets.load(config.dataset)
    directory = None if invocation.workdir is None else RunDirectory(invocation.workdir)
    parts = prepare(config, data, directory)
    print(experiment.to_json(config))
    _print_network(parts, invocation.layers, invocation.output)
    for line in costs.report(parts.plan, config.transfer):
        print(line)
    info, plan = data.info, parts.plan
    named = f"{info.name} {info.version}".rstrip()
    print(f"\ndata       {named}, classes: {', '.join(info.class_names)}")
    for name, size in info.sizes.items():
        print(f"           {name}: {size:,} images")
    for note in info.notes:
        print(f"           {note}")
    print(f"steps      {plan.steps_per_epoch:,} an epoch, {plan.total_steps:,} in all")
    found = memory.estimate(plan, config, info, parts.mesh.size)
    print("\n".join(memory.lines(found)))
    print(f"devices    {runtime.describe_devices()}")
    return 0


def _print_network(parts: Parts, every_layer: bool, output: str | None) -> None:
    model, shape = parts.plan.assembly.model, parts.data.info.image_shape
    name = parts.config.model.name
    print(f"{name} on images of {shape} (height, width, channels)")
    rows = costs.rows(parts.plan)
    blocks = block_diagram.blocks(rows, model.stage_names)
    if len(rows) > _MOST_LAYERS and not every_layer:
        print(block_diagram.render(blocks))
        print(f"--layers prints all {len(rows)} layers")
    else:
        print(layer_table.render(rows))
    if output is not None:
        from cnn_jax.describe import block_picture  # these two import Matplotlib
        from cnn_jax.reporting import figures

        title = f"{name} on {layer_table.by(shape)}"
        figures.save(block_picture.draw(title, shape, blocks), output)
        print(f"picture    {output}")
