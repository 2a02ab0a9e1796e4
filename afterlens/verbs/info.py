"""Describe a task and its weights."""

from afterlens.options import AsJson, Checkpoint, TaskName
from afterlens.output import library_output_on_stderr, show, table


def info(task: TaskName, checkpoint: Checkpoint = None, as_json: AsJson = False) -> None:
    """
    afterlens info reflection

    Show a network's size and cost, and where its weights come from.
    """
    from afterlens.conversion.bundle.contract import digest
    from afterlens.conversion.convert import parameters_and_macs
    from afterlens.training.tasks import find_task
    from afterlens.training.trained import load_network

    with library_output_on_stderr():
        found = find_task(task)
        weights = checkpoint or found.pretrained
        network, metadata = load_network(found, weights)
        costs = {
            f"{width}x{height}": parameters_and_macs(found.deployable(network, height, width))
            for height, width in found.default_sizes
        }
    parameters = sum(parameter.numel() for parameter in network.parameters())
    gmacs = {size: macs / 1e9 for size, (_, macs) in costs.items()}
    result = {
        "task": found.name,
        "title": found.title,
        "parameters": parameters,
        "gmacs": gmacs,
        "checkpoint": {"file": str(weights), "sha256": digest(weights)[0], **metadata},
    }
    rows = [
        ("parameters", f"{parameters / 1e6:.3f} M"),
        *((f"cost at {size}", f"{cost:.2f} GMACs") for size, cost in gmacs.items()),
        ("weights", str(weights)),
        *((name.replace("_", " "), f"{value:.2f}") for name, value in metadata.get("metrics", {}).items()),
        ("training data", metadata.get("data", {}).get("licence", "not stated")),
    ]
    show(result, as_json, lambda: table((found.title, ""), rows))
