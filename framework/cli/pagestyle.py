"""The look of the page of runs, and the little that moves in it."""

STYLE = """
:root{--ink:#1d2329;--quiet:#5d6771;--paper:#fff;--line:#d8dde2;--good:#177245;--bad:#b3261e;
--c0:#1f6fb4;--c1:#d1570d;--c2:#2a8a3e;--c3:#b8297a;--c4:#6b4fbb;--c5:#8a6d00;--c6:#00808a;--c7:#7a4b2b}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--quiet:#9aa5b0;--paper:#15191e;--line:#333b44;--good:#5fcf92;
--bad:#ff8a80;--c0:#6ab2f0;--c1:#ff9a55;--c2:#6fd083;--c3:#f37fbf;--c4:#b09cff;--c5:#e0c04a;--c6:#4fd0da;--c7:#d3a27c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1500px;padding:1.5rem;background:var(--paper);color:var(--ink);
font:15px/1.45 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .4rem}p{margin:.2rem 0}
.quiet{color:var(--quiet);font-size:.86em}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{font-weight:600}
a{color:inherit;text-decoration-color:var(--quiet)}
label{white-space:nowrap}
.finished{color:var(--good)}.failed,.broken,.killed{color:var(--bad)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr));gap:1rem 1.5rem}
figure{margin:0}figcaption{font-weight:600;overflow-wrap:anywhere}
figcaption .quiet{font-weight:400}
svg{display:block;width:100%;height:auto}.swatch{display:inline;width:26px;height:8px}
path{fill:none;stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round;vector-effect:non-scaling-stroke}
.grid{stroke:var(--line);stroke-width:1}.cursor{stroke:var(--quiet);stroke-width:1}
.mark{fill:var(--quiet);font-size:11px}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}
.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}.c6{stroke:var(--c6)}.c7{stroke:var(--c7)}
.d1{stroke-dasharray:7 4}.d2{stroke-dasharray:2 4}.d3{stroke-dasharray:8 3 2 3}
.hidden{display:none}
.reading{min-height:1.5em}
@media print{input{display:none}}
"""

SCRIPT = """
"use strict";
const shown = new Set();
for (const box of document.querySelectorAll("input[data-run]")) {
  shown.add(box.dataset.run);
  box.addEventListener("change", () => {
    if (box.checked) { shown.add(box.dataset.run); } else { shown.delete(box.dataset.run); }
    for (const curve of document.querySelectorAll("path.curve")) {
      if (curve.dataset.run === box.dataset.run) { curve.classList.toggle("hidden", !box.checked); }
    }
  });
}
for (const figure of document.querySelectorAll("figure[data-values]")) {
  const values = JSON.parse(figure.dataset.values);
  const svg = figure.querySelector("svg"), cursor = svg.querySelector(".cursor");
  const reading = figure.querySelector(".reading"), box = svg.viewBox.baseVal;
  const left = 54, right = box.width - 12;
  svg.addEventListener("pointermove", (event) => {
    const area = svg.getBoundingClientRect();
    const x = Math.min(right, Math.max(left, (event.clientX - area.left) / area.width * box.width));
    const wanted = values.first + (x - left) / (right - left) * (values.last - values.first);
    const told = [];
    let step = null;
    for (const [run, curve] of Object.entries(values.runs)) {
      if (!shown.has(run)) { continue; }
      let best = null;
      for (const point of curve.points) {
        if (point[1] !== null && (best === null || Math.abs(point[0] - wanted) < Math.abs(best[0] - wanted))) {
          best = point;
        }
      }
      if (best !== null) {
        step = step ?? best[0];
        told.push(`${curve.name} ${Number(best[1].toPrecision(4))}`);
      }
    }
    cursor.setAttribute("d", `M${x} 10V${box.height - 26}`);
    reading.textContent = step === null ? "\\u00a0" : `step ${step}: ${told.join(", ")}`;
  });
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("d", "");
    reading.textContent = "\\u00a0";
  });
}
"""
