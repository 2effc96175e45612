// Providers: how each is set up, and the thresholds of all circuits.
const priced = (p) => !p ? "no price known" : p.input === 0 && p.output === 0 ? "free" : `${money(p.input)} in, ${money(p.output)} out for a million tokens`;

function setupOf(p) {
  const state = now?.tiers.find((t) => t.name === p.name), word = state?.word || (p.left_out ? "left out" : "unused");
  const head = tag("h3", "", p.name), does = el("div", "does left");
  if (now && state) drawButtons(does, state);
  const card = tag("article", `card ${tone(word)}`, head, " ", tag("span", "word", word), " ", tag("small", "", p.kind));
  card.setAttribute("aria-label", p.name);
  if (state?.why) card.append(tag("p", "", state.why));
  card.append(tag("p", "", p.left_out ? `left out: ${p.left_out}` : `credential: ${p.credential.source || "none is needed"}`));
  if (p.places.length) card.append(tag("ul", "plain", ...p.places.map((place) => tag("li", "", `place ${place.name}: ${place.left_out || place.credential || "ready"}`))));
  const circuits = new Map((state?.targets || []).map((c) => [c.name, c]));
  card.append(tag("ul", "plain", ...p.models.map((m) => {
    const c = circuits.get(m.target);
    return tag("li", "", tag("b", "", m.model), ` · ${priced(m.price)} · ${m.rows.length ? `in ${m.rows.join(", ")}` : "in no row"}${c ? ` · ${c.word}${c.last_error ? `, last error ${fault(c.last_error, now.at)}` : ""}` : ""}`);
  })), does);
  return card;
}

const UNITS = Object.fromEntries(["recovery_timeout", "recovery_cap", "window", "level_decay", "slow_start", "panic_every", "lease", "throttle_min", "throttle_max",
  "throttle_default", "throttle_default_cap", "misconfigured_hold", "misconfigured_cap"].map((name) => [name, "s"]));

function drawThresholds(policy, overrides, changeable) {
  const form = $("thresholds");
  form.replaceChildren(...Object.entries(policy).filter(([, v]) => typeof v === "number").map(([name, value]) => {
    const field = Object.assign(el("input"), { name, type: "number", step: "any", value, required: true, disabled: !changeable }), over = overrides[name];
    field.dataset.was = value;
    const label = tag("label", "", `${name.replaceAll("_", " ")}${UNITS[name] ? `, ${UNITS[name]}` : ""}`, field);
    if (over) label.append(tag("small", "", `set by hand; the config says ${over.configured}`));
    return label;
  }));
  if (!changeable) return;
  const back = Object.assign(tag("button", "", "Take all changes back"), { type: "button", disabled: !Object.keys(overrides).length });
  back.onclick = () => changed(Object.fromEntries(Object.keys(overrides).map((name) => [name, null])), "Every threshold is as the config has it.");
  form.append(tag("p", "does left", tag("button", "yes", "Change"), back));
  form.onsubmit = (e) => {
    e.preventDefault();
    const given = [...form.querySelectorAll("input")].filter((f) => f.value !== f.dataset.was).map((f) => [f.name, Number(f.value)]);
    if (given.length) changed(Object.fromEntries(given), given.map(([name, value]) => `${name}: ${value}`).join(", "));
  };
}

async function changed(body, text) {
  if (await commanded("v1/breaker", { method: "PATCH", body, title: "Change thresholds?", text, yes: "Change" })) show();
}

async function drawChanges(current) {
  const { overrides, changes = [], ...policy } = await dataOf("v1/breaker");
  if (!current()) return;
  drawThresholds(policy, overrides, true);
  $("changed").hidden = !changes.length;
  each($("changed").querySelector("ol"), changes, () => el("li"), (li, c) => put(li, `${moment(1000 * c.at)} ${c.what}${c.detail ? ` (${c.detail})` : ""}, by ${c.by}`));
}

let setup = null;

// Draws again the cards of providers alone whose state has changed.
function drawSetup() {
  if (!setup) return;
  const box = $("setup"), words = (t) => t && [t.word, t.why, t.isolated, t.targets.map((c) => [c.word, c.last_error?.at])];
  while (box.children.length > setup.providers.length) box.lastElementChild.remove();
  setup.providers.forEach((p, i) => {
    const told = JSON.stringify([p, words(now?.tiers.find((t) => t.name === p.name)), now?.commands]);
    if (box.children[i]?.dataset.told === told) return;
    const card = setupOf(p);
    card.dataset.told = told;
    if (box.children[i]) box.children[i].replaceWith(card); else box.append(card);
  });
}

PAGES.providers = { title: "Providers", async show(_, __, current) {
  const got = await dataOf("v1/setup").catch((error) => error);
  if (!current()) return;
  setup = got instanceof Error ? null : got;
  if (!setup) {
    $("operate").hidden = got.status !== 401;
    $("setup").replaceChildren();
    throw got;
  }
  said("providers", "");
  drawSetup();
  const refused = now?.commands ? await drawChanges(current).then(() => null, (error) => error) : null;
  if (!current()) return;
  if (refused && !refuses(refused)) throw refused;
  $("operate").hidden = !refused;
  $("nothresholds").hidden = now?.commands && !refused;
  if ($("nothresholds").hidden) return;
  put($("nothresholds"), refused ? "To change them here, use the admin key." : now ? "To change them here, set auth.admin_key_env in the config." : "");
  drawThresholds(setup.breaker, {}, false);
} };
