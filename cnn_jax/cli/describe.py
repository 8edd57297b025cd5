"""The command `describe`: data, layers, steps, memory and settings, without training."""

from cnn_jax import experiment, extras, runtime, text
from cnn_jax.cli.invocation import Invocation
from cnn_jax.cli.train import the_experiment
from cnn_jax.data import DataInfo
from cnn_jax.describe import block_diagram, layer_table
from cnn_jax.experiment import Experiment
from cnn_jax.reporting import counts, tables
from cnn_jax.runs import changes
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.training import costs, memory
from cnn_jax.training.parts import Parts, prepare

# Networks with more layers are printed by their blocks.
_MOST_LAYERS = 40
_MOST_CLASSES = 30


def run_command(invocation: Invocation) -> int:
    """Prints what a run would be and returns the exit code."""
    if invocation.workdir is not None and not (invocation.config or invocation.overrides):
        RunDirectory(invocation.workdir).check_exists()  # nothing else says what to describe
    if invocation.output is not None:
        extras.need_to_draw()
    config = the_experiment(invocation)
    if invocation.json:
        print(experiment.to_json(config))
        return 0
    directory = None if invocation.workdir is None else RunDirectory(invocation.workdir)
    data = changes.data_of(config, directory)
    parts = prepare(config, data, directory)
    _print_data(data.info)
    _print_network(parts, invocation.layers, invocation.output)
    for line in costs.report(parts.plan, config.transfer):
        print(line)
    plan = parts.plan
    print(f"\nsteps      {plan.steps_per_epoch:,} an epoch, {plan.total_steps:,} in all")
    found = memory.estimate(plan, config, data.info, parts.mesh.size)
    print("\n".join(memory.lines(found)))
    print(f"devices    {runtime.describe_devices()}")
    changed = experiment.difference(Experiment(), config)
    settings = tables.settings({path: new for path, (_, new) in changed.items()})
    print(f"settings   {text.one_line(settings)} (--json prints all)")
    return 0


def _print_data(info: DataInfo) -> None:
    """Prints how many examples each class has, and how unequal the classes are."""
    named = f"{info.name} {info.version}".rstrip()
    sizes = ", ".join(f"{name} {size:,}" for name, size in info.sizes.items())
    print(f"data       {named}: {sizes} images of {layer_table.by(info.image_shape)}")
    ratio = text.one_line(counts.ratio(info.class_counts, info.class_names))
    print(f"classes    {len(info.class_names):,}; {ratio}")
    for note in info.notes:
        print(f"           {text.one_line(note)}")
    rows = counts.rows(info.class_counts, info.class_names, _MOST_CLASSES)
    print(tables.table(rows, ["class", *info.class_counts]))
    if len(rows) < len(info.class_names):
        print(f"These are the {len(rows) // 2} largest and the {len(rows) // 2} smallest classes.")
    print()


def _print_network(parts: Parts, every_layer: bool, output: str | None) -> None:
    model, shape = parts.plan.assembly.model, parts.data.info.image_shape
    name = parts.config.model.name
    print(f"{name} on images of {shape} (height, width, channels)")
    rows = parts.plan.layers
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
