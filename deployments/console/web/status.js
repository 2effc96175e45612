// Time goes on between two snapshots.
const clocks = new Map();
const tell = (box, say) => { clocks.set(box, [performance.now(), say]); put(box, say(0)); };
const probeIn = (s) => (gone) => s - gone > 0 ? `next probe in ${long(s - gone)}` : "the next request probes it";
const open = (t) => /(open|resting)$/.test(t.word) && t.word !== "half-open";
const due = (t) => open(t) ? (gone) => `· ${probeIn(t.retry_in_seconds)(gone)}`
  : t.word.endsWith("isolated") ? (gone) => `· back in ${long(Math.max(0, t.isolated_for_seconds - gone))}` : () => "";
const since = (t) => (gone) => t.since_seconds == null ? "" : `· for ${long(Math.max(0, t.since_seconds + gone))}`;

// Sparklines: sixty slots, the newest at the right, what failed below the line.
const bars = (values, scale, up) => values.map((v, i) => {
  const high = v ? Math.max(up ? 1.5 : 3, v * scale) : 0, x = 120 - 2 * (values.length - i);
  return high ? `M${x} ${up ? 24 - high : 25}h1.6v${high}h-1.6z` : "";
}).join("");
const curve = (values, scale) => values.map((v, i) => {
  const at = `${121 - 2 * (values.length - i)} ${24 - v * scale}`;
  return v == null ? "" : values[i - 1] == null ? `M${at}h${values[i + 1] == null ? 2 : .01}` : `L${at}`;
}).join("");

function drawFigures(box, t) {
  const find = (what) => box.querySelector(what), { ok, failed, latency_ms: ms } = t.trend;
  const scale = Math.min(24 / Math.max(1, ...ok), 9 / Math.max(1, ...failed)), top = Math.max(1, ...ms);
  dress(box, t.calls ? "figures" : "figures idle");
  put(find(".rate"), t.success_rate == null ? "–" : `${t.success_rate} %`);
  put(find(".of"), t.calls ? `of ${t.calls} in 5 min` : "");
  put(find(".calls"), t.calls ? `${t.calls_per_second} /s` : "–");
  put(find(".latency"), about(t.avg_latency_ms));
  find(".ok").setAttribute("d", bars(ok, scale, true));
  find(".failed").setAttribute("d", bars(failed, scale, false));
  find(".ms").setAttribute("d", curve(ms, 22 / top));
  const [calls, latency] = box.querySelectorAll("svg");
  calls.setAttribute("aria-label", `${t.calls} calls in five minutes, ${failed.reduce((a, b) => a + b, 0)} of them failed`);
  latency.setAttribute("aria-label", `latency of whole answers: ${about(t.avg_latency_ms)} on average, up to ${about(top)}`);
}

const fitting = (t) => t.left_out || t.word === "unused" ? [] : t.isolated ? ["restore"]
  : open(t) ? ["recover", "isolate", "reset"] : t.word === "healthy" ? ["isolate"] : ["isolate", "reset"];

// A button of its own for each verb: one that became another between aim and click would do what nobody meant.
function drawButtons(box, t) {
  const fits = now.commands ? fitting(t) : [];
  for (const [verb, [label, text]] of Object.entries(VERBS)) {
    const button = box.querySelector(`[data-verb=${verb}]`) || box.appendChild(tag("button", "", label));
    button.dataset.verb = verb;
    button.hidden = !fits.includes(verb);
    button.setAttribute("aria-label", `${label} ${t.name}`);
    button.title = text;
    button.onclick = () => command(t.name, verb);
  }
}

// Drawing.
let now = null;
const words = new Map();

function note(text) {
  const box = $("log"), item = el("li"), time = el("small");
  put(time, `${dated(new Date())} `);
  item.append(time, text);
  $("quiet")?.remove();
  box.prepend(item);
  while (box.children.length > 12) box.lastElementChild.remove();
}

function drawTier(box, t, i) {
  const find = (what) => box.querySelector(what), before = words.get(t.name), n = t.targets.length;
  const changed = before && before !== t.word;
  words.set(t.name, t.word);
  if (changed) note(`${t.name}: ${t.word}, ${t.why}`);
  if (changed || !box.classList.contains(tone(t.word))) {
    dress(box, `tier ${tone(t.word)}`);
    box.offsetWidth; // so that the animation begins anew
    if (changed) box.classList.add("fresh");
  }
  put(find(".place"), `${i + 1}`);
  find(".mark path").setAttribute("d", MARKS[tone(t.word)]);
  put(find("h3"), t.name); put(find(".word"), t.word); put(find(".kind"), t.kind); put(find(".why"), t.why);
  find(".due").title = "After recovery_timeout, and up to a fifth of it more: so not all circuits are probed at once.";
  tell(find(".due"), due(t)); tell(find(".clock"), since(t));
  put(find(".error"), t.word === "healthy" || t.left_out ? "" : fault(t.last_error, now.at));
  drawButtons(find(".does"), t);
  drawFigures(find(".figures"), t);
  find("details").hidden = find(".figures").hidden = !n;
  put(find("summary"), `${n} circuit${n === 1 ? "" : "s"}`);
  each(find("details ul"), t.targets, () => {
    const item = el("li");
    item.append(el("span", "word"), " ", el("b"), el("small"), el("p", "dim"), el("p", "error"));
    return item;
  }, drawCircuit);
}

function drawCircuit(item, c) {
  const [word, name, figures, why, error] = item.children;
  dress(item, tone(c.word)); put(word, c.word); put(name, c.model);
  put(figures, c.calls ? ` · ${c.calls} calls, ${c.success_rate} % answered${
    c.avg_latency_ms == null ? "" : `, ${about(c.avg_latency_ms)}`}` : "");
  tell(why, (gone) => `${c.why} ${due(c)(gone)} ${since(c)(gone)}`);
  put(error, c.last_error ? `last error: ${fault(c.last_error, now.at)}` : "");
}

function drawRow(box, row) {
  const [name, rest] = box.children, [nobody, order, skipped] = rest.children;
  put(name, row.kind === "chat" ? row.name : `${row.name} (${row.kind})`);
  const provider = (target) => target.split("/")[0];
  each(order, row.order, () => { const li = el("li"); li.append(el("b"), el("small")); return li; }, (li, c) => {
    put(li.children[0], provider(c.target)); put(li.children[1], c.note ? ` ${c.note}` : ""); li.title = c.target;
  });
  each(skipped, row.skipped, () => { const li = el("li"); li.append(el("s"), el("span")); return li; }, (li, s) => {
    put(li.children[0], provider(s.target)); li.title = s.target;
    tell(li.children[1], (gone) => ` ${s.why}${s.retry_in_seconds == null ? "" : `, ${probeIn(s.retry_in_seconds)(gone)}`}`);
  });
  nobody.hidden = row.order.length > 0;
}

function draw(snapshot) {
  const first = !now;
  now = snapshot;
  const why = now.breaker_actor === "away" ? `${now.why}; the breaker actor is away: its last word, without figures` : now.why;
  if (words.size && ($("health").textContent !== now.health || $("why").textContent !== why)) note(`the service is ${now.health}: ${why}`);
  put($("health"), now.health); dress($("health"), tone(now.health)); put($("why"), why);
  entitle();
  const colour = { good: "%2314753f", warn: "%23e09a26", bad: "%23d3202e" }[tone(now.health)];
  const icon = `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='${colour}'/></svg>`;
  const link = document.querySelector("link[rel=icon]");
  if (link.getAttribute("href") !== icon) link.setAttribute("href", icon);
  clocks.clear();
  each($("tiers"), now.tiers, () => $("tier").content.firstElementChild.cloneNode(true), drawTier);
  each($("rows"), now.rows, () => {
    const li = el("li"), rest = el("div");
    rest.append(el("b", "bad word"), el("ol", "order"), el("ul", "skipped"));
    put(rest.firstChild, "nobody can be asked");
    li.append(el("b"), rest);
    return li;
  }, drawRow);
  const out = now.health === "healthy" ? [] : now.tiers.filter((t) => t.left_out);
  $("add").hidden = $("keys").hidden = !out.length;
  each($("keys").querySelector("ul"), out, () => el("li"), (li, t) => put(li, `${t.name}: ${t.left_out}`));
  const l = now.ledger;
  put($("foot"), [`mode ${now.mode}`, `breaker actor ${now.breaker_actor}`,
    l && `ledger ${l.store}${l.lag_seconds > 5 ? `, ${l.lag_rows} rows wait for it since ${long(l.lag_seconds)}` : ""}`,
    !now.commands && "to isolate or recover a provider here, set auth.admin_key_env", "five minutes in bars of 5 s, what failed below the line"].filter(Boolean).join(" · "));
  if (page === "providers") first ? show() : drawSetup();
}
