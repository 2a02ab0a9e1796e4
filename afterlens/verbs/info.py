"""Describe a task and its weights."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from afterlens.options import AsJson, Checkpoint, TaskName
from afterlens.output import library_output_on_stderr, show, table

if TYPE_CHECKING:
    from rich.console import RenderableType

TOPICS = {
    "good at": "good_at",
    "bad at": "bad_at",
    "data": "trained_on",
    "licence of the weights": "licence",
}
"""What is shown of a model card, and its keys in the JSON."""


def info(task: TaskName, checkpoint: Checkpoint = None, as_json: AsJson = False) -> None:
    """
    afterlens info reflection

    Describe a network: inputs, outputs, size, cost, training data, what it is good and bad at, and its licence.
    """
    from afterlens.conversion.bundle.contract import digest
    from afterlens.conversion.convert import parameters_and_macs
    from afterlens.training.card import read_card
    from afterlens.training.tasks import find_task
    from afterlens.training.trained import load_network

    with library_output_on_stderr():
        found = find_task(task)
        weights = checkpoint or found.pretrained
        network, metadata = load_network(found, weights)
        graphs = [found.deployable(network, *size) for size in found.default_sizes]
        gmacs = {
            f"{width}x{height}": parameters_and_macs(graph)[1] / 1e9
            for graph, (height, width) in zip(graphs, found.default_sizes, strict=True)
        }
    card = read_card(weights, found.name)
    result = {
        "task": found.name,
        "title": found.title,
        "inputs": [asdict(port) for port in graphs[0].inputs],
        "outputs": [asdict(port) for port in graphs[0].outputs],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "gmacs": gmacs,
        "trained_on": metadata.get("data", {}).get("licence", "not stated"),
        **dict.fromkeys(("good_at", "bad_at", "licence")),
        **{key: card[topic] for topic, key in TOPICS.items() if topic in card},
        "checkpoint": {"file": str(weights), "sha256": digest(weights)[0], **metadata},
    }
    show(result, as_json, lambda: description(result))


def description(result: dict[str, Any]) -> "RenderableType":
    """The result for people."""
    checkpoint = result["checkpoint"]
    rows = [
        *((f"input {port['name']}", _port(port)) for port in result["inputs"]),
        *((f"output {port['name']}", _port(port)) for port in result["outputs"]),
        ("parameters", f"{result['parameters'] / 1e6:.3f} M"),
        *((f"cost at {size}", f"{cost:.2f} GMACs") for size, cost in result["gmacs"].items()),
        *(
            (key.replace("_", " "), result[key] or "not stated: these weights have no model card")
            for key in ("good_at", "bad_at", "trained_on", "licence")
        ),
        ("weights", checkpoint["file"]),
        *((name.replace("_", " "), f"{value:.2f}") for name, value in checkpoint.get("metrics", {}).items()),
    ]
    return table((result["title"], ""), rows)


def _port(port: dict[str, Any]) -> str:
    low, high = port["range"]
    meaning = f": {port['meaning']}" if port["meaning"] else ""
    picture = f"(1, {port['shape'][1]}, H, W) {port['colour_space']}"
    shape = picture if port["kind"] == "image" else f"{tuple(port['shape'])}"
    return f"{shape} in [{low:g}, {high:g}]{meaning}"
