"""Writes the JSON Schemas that are generated from our classes: `python -m afterlens.schemas`.

They are committed, because apps and other tools read them; a test checks that they are current.
"""

from pathlib import Path

from afterlens.benchmarks import document
from afterlens.conversion.bundle import contract, proof
from afterlens.conversion.bundle.strict_json import schema_text


def schemas() -> dict[Path, str]:
    """The text of each schema file."""
    return {
        contract.SCHEMA_FILE: schema_text(contract.CONTRACT, "model.json of a bundle", "serialization"),
        proof.SCHEMA_FILE: schema_text(proof.PROOF, "proof.json of a bundle", "serialization"),
        document.SCHEMA_FILE: schema_text(
            document.DOCUMENT, "Benchmark of restoration artifacts", "validation"
        ),
    }


if __name__ == "__main__":
    for path, text in schemas().items():
        path.write_text(text, encoding="utf-8")
        print(path.resolve())
