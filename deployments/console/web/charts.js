// Charts: SVG of a few rectangles. A library would bring fifty kilobytes and a canvas that no screen reader reads.
const COLOURS = 9; // classes c0 to c8; the last is that of all others

// Stacked bars. `series` are {name, values, colour}, one value a slot; `labels` one text a slot.
function stacked(series, labels, say, { high = 60, title }) {
  const n = labels.length, sums = labels.map((_, i) => series.reduce((sum, s) => sum + (s.values[i] || 0), 0)), top = Math.max(...sums, 0);
  const box = svg("svg", { class: "bars", viewBox: `0 0 ${n * 10} ${high}`, preserveAspectRatio: "none", role: "img",
    "aria-label": top ? `${title}: ${say(sums.reduce((a, b) => a + b, 0))}, at most ${say(top)} in one bar` : `${title}: nothing` });
  sums.forEach((sum, i) => {
    let y = high;
    const group = svg("g", {}, svg("rect", { class: "hit", x: i * 10, y: 0, width: 10, height: high }));
    for (const s of series) {
      const tall = top ? (s.values[i] || 0) / top * (high - 2) : 0;
      if (!tall) continue;
      const drawn = Math.max(tall, .8);
      y -= drawn;
      group.append(svg("rect", { class: `c${s.colour}`, x: i * 10 + 1, y, width: 8, height: drawn }));
    }
    const parts = series.length > 1 ? series.filter((s) => s.values[i]).map((s) => `${s.name} ${say(s.values[i])}`) : [];
    const text = svg("title");
    text.textContent = [`${labels[i]}: ${say(sum)}`, ...parts].join("\n");
    group.append(text);
    box.append(group);
  });
  box.append(svg("path", { class: "axis", d: `M0 ${high}h${n * 10}`, "vector-effect": "non-scaling-stroke" }));
  return box;
}

function legend(series, say) {
  const list = el("ul", "legend");
  for (const s of series) {
    const item = tag("li", "", svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { class: `c${s.colour}`, width: 10, height: 10 })));
    item.append(` ${s.name} `, tag("b", "", say(s.values.reduce((a, b) => a + (b || 0), 0))));
    list.append(item);
  }
  return list;
}

const percent = (part, whole) => whole ? `${+(100 * part / whole).toPrecision(3)} %` : "–";
