"""The frame of an HTML report: one file, no request to elsewhere, for light and dark, with and without JavaScript.

Everything that is not made with `Html` is text and gets escaped: names, licences and messages come from files
that may have been downloaded.
"""

import base64
import hashlib
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from afterlens.training.media.images import read_photo

MAX_SIDE = 1280
"""Pictures are shown at most this large, in pixels, as JPEG: a report should fit into an e-mail."""


class Html(str):
    """Text that is HTML already and is not escaped again."""


def text(value: object) -> Html:
    """`value` as HTML: escaped unless it is `Html`."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """`<name attributes>children</name>`; a trailing underscore of an attribute (class_) is dropped."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """The parts one after the other."""
    return Html("".join(text(part) for part in parts))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "") -> Html:
    """A table; columns whose heading ends in ">" hold numbers and are set to the right."""
    right = [column.endswith(">") for column in columns]

    def cells(kind: str, values: Sequence[object]) -> Html:
        return join(
            tag(kind, value, class_="number") if number else tag(kind, value)
            for value, number in zip(values, right, strict=True)
        )

    head = tag("thead", tag("tr", cells("th", [column.removesuffix(">") for column in columns])))
    body = tag("tbody", join(tag("tr", cells("td", row)) for row in rows))
    title = tag("caption", caption) if caption else ""
    return tag("div", tag("table", title, head, body), class_="wide")


def verdict(passed: bool | None) -> Html:
    """A coloured word: pass, fail, or not verified."""
    word, style = {True: ("pass", "good"), False: ("fail", "bad"), None: ("not verified", "open")}[passed]
    return tag("span", word, class_=f"verdict {style}")


def with_note(value: object, note: str) -> Html:
    """A value with a small line below it: where a number comes from, what a file stores."""
    return join([value, tag("span", note, class_="source")])


def picture(path: Path, description: str) -> Html:
    """The image file as a data URI. Raises UserError where it is no image."""
    rgb = read_photo(path).rgb
    image = Image.fromarray(np.rint(rgb * 255).astype(np.uint8))
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88, subsampling=0)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    attributes = f'alt="{html.escape(description)}" width="{image.width}" height="{image.height}"'
    return Html(f'<img src="data:image/jpeg;base64,{data}" {attributes}>')


def page(title: str, body: Html) -> str:
    """The whole document."""
    # Should escaping ever fail: only this very script runs, and nothing is loaded from anywhere.
    allowed = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    return (
        "<!doctype html>\n"
        '<html lang="en-GB"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main><script>{_SCRIPT}</script></body></html>\n"
    )


_STYLE = """
:root { --paper: #fbfaf8; --card: #fff; --ink: #1c1b19; --soft: #6b675f; --line: #e4e0d8; --accent: #0f6b6b;
  --second: #a4471d; --bar: #8fc1bd; --good: #1d7a3e; --good-back: #e2f3e6; --bad: #b3261e; --bad-back: #fbe4e2;
  --open-back: #eeebe4; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16171a; --card: #1e2024; --ink: #ecebe7; --soft: #a19d94; --line: #33353b; --accent: #74c7c0;
    --second: #f0a57c; --bar: #3d7f7b; --good: #7fd89b; --good-back: #16341f; --bad: #ff9d94; --bad-back: #43191a;
    --open-back: #2c2e33; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Noto Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 20px 72px; }
header p.lead { font-size: 1.15rem; max-width: 46rem; margin: 0 0 20px; color: var(--soft); }
.eyebrow { letter-spacing: .09em; text-transform: uppercase; font-size: .78rem; font-weight: 600;
  color: var(--accent); margin: 0; }
h1 { font-size: clamp(1.7rem, 4vw, 2.5rem); line-height: 1.15; margin: 6px 0 12px; letter-spacing: -.015em; }
h2 { font-size: 1.5rem; margin: 64px 0 4px; letter-spacing: -.01em; }
h3 { font-size: 1.08rem; margin: 36px 0 8px; }
p, ul { max-width: 46rem; }
p.note, figcaption, caption { color: var(--soft); font-size: .9rem; }
code, .hash { font: .86em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
a { color: var(--accent); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin: 20px 0 8px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; }
.tile b { display: block; font-size: 1.45rem; line-height: 1.25; letter-spacing: -.01em;
  font-variant-numeric: tabular-nums; }
.tile span.label { color: var(--soft); font-size: .84rem; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  margin: 10px 0 16px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { text-align: left; padding: 12px 14px 0; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .8rem; }
th, td { padding: 9px 11px; border-top: 1px solid var(--line); vertical-align: baseline; }
td:first-child, td code { white-space: nowrap; }
thead th { border-top: 0; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.verdict { display: inline-block; border-radius: 999px; padding: 1px 10px; font-size: .84rem; font-weight: 600;
  white-space: nowrap; }
.good { color: var(--good); background: var(--good-back); }
.bad { color: var(--bad); background: var(--bad-back); }
.open { color: var(--soft); background: var(--open-back); }
.triple { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 12px; margin: 14px 0 6px; }
@media (max-width: 640px) { .triple { grid-template-columns: 1fr; } }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; border-radius: 10px; background: var(--line); }
figcaption { padding: 6px 2px; }
.slider { position: relative; margin: 14px 0 4px; --at: 50%; }
.slider img { display: block; width: 100%; height: auto; border-radius: 12px; }
.slider img.over { position: absolute; inset: 0; clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.slider i { position: absolute; top: 0; bottom: 0; left: var(--at); width: 3px; margin-left: -1.5px; background: #fff;
  box-shadow: 0 0 6px #0009; pointer-events: none; }
.slider input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.slider input:focus-visible ~ i { background: var(--accent); width: 5px; }
.slider b { position: absolute; top: 12px; padding: 2px 10px; border-radius: 999px; background: #000a; color: #fff;
  font-size: .82rem; font-weight: 600; pointer-events: none; }
.slider b.left { left: 12px; } .slider b.right { right: 12px; }
.bars { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px;
  margin: 10px 0 8px; display: grid; gap: 10px; }
.bars div.row { display: grid; grid-template-columns: minmax(9rem, 14rem) 1fr 10.5rem; gap: 12px;
  align-items: center; font-size: .92rem; }
.bars .track { height: 14px; border-radius: 7px; background: var(--open-back); overflow: hidden; }
.bars .track span { display: block; height: 100%; border-radius: 7px; background: var(--bar); }
.bars .row.own .track span { background: var(--accent); }
.bars .value { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
@media (max-width: 640px) { .bars div.row { grid-template-columns: 1fr auto; } .bars .track { grid-column: 1 / -1; } }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 12px;
  margin: 10px 0 8px; }
.plot { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 8px; }
.plot svg { display: block; width: 100%; height: auto; font-size: 12px; }
.plot text { fill: var(--ink); } .plot .tick, .plot .axis { fill: var(--soft); font-variant-numeric: tabular-nums; }
.plot .label { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
.plot .heading { font-weight: 600; font-size: 13px; }
.plot .grid { stroke: var(--line); } .plot .base { stroke: var(--soft); }
.plot .level { stroke: var(--soft); stroke-dasharray: 5 4; } .plot .leader { stroke: var(--soft); stroke-width: .8; }
.plot .front { fill: none; stroke: var(--bar); stroke-width: 2; }
.plot .dot { stroke: var(--card); stroke-width: 1.5; }
.plot .dot.s0, .plot .label.s0 { fill: var(--accent); } .plot .dot.s1, .plot .label.s1 { fill: var(--second); }
.source { display: block; color: var(--soft); font-size: .84rem; }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: 6px 20px; margin: 12px 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin: 10px 0; } summary { cursor: pointer; color: var(--accent); }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px;
  font-size: .84rem; }
.failures { border-left: 4px solid var(--bad); background: var(--bad-back); border-radius: 8px; padding: 10px 16px;
  margin: 12px 0; overflow-wrap: anywhere; }
.limits { border: 1px solid var(--line); border-left: 4px solid var(--accent); background: var(--card);
  border-radius: 12px; padding: 6px 20px; margin-top: 12px; }
@media print { .slider { display: none; } body { background: #fff; }
  .wide, .tile, .bars, .plot { break-inside: avoid; } }
"""

# A slider over the first two pictures of each comparison, made from the pictures that stand there anyway.
_SCRIPT = """
for (const group of document.querySelectorAll('[data-compare]')) {
  const [before, after] = group.querySelectorAll('img');
  const slider = document.createElement('div');
  slider.className = 'slider';
  const over = before.cloneNode();
  over.className = 'over';
  const handle = document.createElement('input');
  Object.assign(handle, {type: 'range', min: 0, max: 100, step: 0.1, value: 50});
  handle.setAttribute('aria-label', 'Show more of the input or of the restored photo');
  handle.addEventListener('input', () => slider.style.setProperty('--at', handle.value + '%'));
  const label = (side, words) =>
    Object.assign(document.createElement('b'), {className: side, textContent: words});
  slider.append(after.cloneNode(), over, handle, document.createElement('i'),
    label('left', 'input'), label('right', 'restored'));
  slider.style.maxWidth = Math.max(480, before.getAttribute('width')) + 'px';  // shown sharp, not blown up
  group.before(slider);
}
"""
