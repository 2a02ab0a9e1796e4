"""What a model card says: the list at its top, by topic.

    card = read_card(task.pretrained, task.name)
    card["good at"], card["bad at"], card["data"], card["licence of the weights"]

The cards are the Markdown files beside the bundled weights, one a task. They are the one place where this is written
down; `afterlens info` and the documents show it from there.
"""

import re
from pathlib import Path

PRETRAINED = Path(__file__).with_name("pretrained")

_TOPIC = re.compile(r"^- \*\*(?P<topic>[^*]+?)[:,]\*\*(?P<text>.*(?:\n  .*)*)", re.MULTILINE)


def read_card(weights: Path, task: str) -> dict[str, str]:
    """The topics (small letters) and texts (without line breaks, links and emphasis) of the card of bundled weights.

    Empty for weights that are not bundled: nobody has written a card for them.
    """
    if weights.resolve().parent != PRETRAINED.resolve():
        return {}
    text = (PRETRAINED / f"{task}.md").read_text("utf-8").partition("\n## ")[0]
    return {found["topic"].lower(): _plain(found["text"]) for found in _TOPIC.finditer(text)}


def _plain(text: str) -> str:
    without_links = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", text)
    return " ".join(without_links.replace("*", "").split())
