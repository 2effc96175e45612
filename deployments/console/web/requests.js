// Requests: a live list, the newest first, and one request explained.
const readRequests = filtered("requests");
const HEADS = ["began", "outcome", "row", "who answered", "attempts", "time", "tokens", "cost", "tenant", "id"];
let listed = [], cursor = null;

const outcomeTone = (outcome) => outcome === "ok" ? "good" : outcome === "open" || outcome === "cancelled" ? "off" : "bad";

function cells(r) {
  const link = Object.assign(tag("a", "", r.request_id), { href: `#/requests/${encodeURIComponent(r.request_id)}` });
  const word = tag("span", `word ${outcomeTone(r.outcome)}`, r.outcome);
  const who = r.provider ? `${r.provider}${r.place ? ` (${r.place})` : ""}${r.failed_over ? ", failed over" : ""}` : "nobody";
  return [tag("time", "", moment(r.began_at)), word, r.row, who, many(r.attempts), about(r.ms), many(r.tokens_in + r.tokens_out), money(r.cost_usd), r.tenant ?? "none", link];
}

// Rows stay what they are while the list moves on: a link that has the focus keeps it.
const rowsOf = new Map();

function rowOf(r) {
  const row = rowsOf.get(r.request_id) || el("tr"), told = JSON.stringify(r);
  if (row.dataset.told === told) return row;
  row.dataset.told = told;
  row.replaceChildren(...cells(r).map((cell) => tag("td", "", cell)));
  row.onclick = (e) => { if (!e.target.closest("a")) go(`requests/${encodeURIComponent(r.request_id)}`); };
  rowsOf.set(r.request_id, row);
  return row;
}

function drawList() {
  const table = $("list"), kept = new Set(listed.map((r) => r.request_id));
  if (!table.tBodies.length) table.append(headOf(HEADS), el("tbody"));
  for (const [id, row] of rowsOf) if (!kept.has(id)) { row.remove(); rowsOf.delete(id); }
  const body = table.tBodies[0];
  listed.map(rowOf).forEach((row, i) => { if (body.children[i] !== row) body.insertBefore(row, body.children[i] || null); });
}

const listOf = (asked, before) => dataOf(`v1/requests?${new URLSearchParams(before ? { ...asked, before } : asked)}`);

let askedBefore = "", paused = false; // paused: older ones are shown, and the list stands still
const forgetList = () => { paused = false; askedBefore = ""; };

async function drawRequests(query, _, current) {
  const asked = readRequests(query), text = JSON.stringify(asked);
  if (paused && text === askedBefore) return;
  const got = await listOf(asked);
  if (!current() || (paused && text === askedBefore)) return;
  askedBefore = text; paused = false;
  listed = got.data;
  paged(got); drawList();
  said("requests", listed.length ? got.source === "memory" ? "The ledger does not answer: these are the last requests of one replica alone." : "" : nothing(asked));
  $("older").onclick = () => older(asked, text).catch((error) => said("requests", error.message));
}

async function older(asked, text) {
  const before = paused;
  $("older").disabled = paused = true; // a poll that comes meanwhile would move what is shown
  try {
    const more = await listOf(asked, cursor);
    if (text !== askedBefore || !paused) return;
    listed = [...listed, ...more.data];
    paged(more); drawList();
  } catch (error) { paused = before; throw error; } finally { $("older").disabled = false; }
}
$("newest").onclick = () => { forgetList(); show(); };

const nothing = (asked) => Object.keys(asked).length ? "No request like this." : "No request yet. Send one by “Try it”.";

function paged(got) {
  cursor = got.next;
  $("older").hidden = !cursor;
  $("newest").hidden = !paused;
  put($("lookedback"), paused ? `The list stands still. It goes back to ${got.looked_back_to ? moment(got.looked_back_to) : "the first"}` : "");
}

PAGES.requests = { title: "Requests", every: 2, show: drawRequests };

// One request.
const FACTS = [
  ["outcome", (r) => r.outcome], ["answered by", (r) => r.provider ? `${r.provider}/${r.model}${r.place ? ` at ${r.place}` : ""}` : "nobody"], ["row", (r) => r.row],
  ["began", (r) => moment(r.began_at)], ["took", (r) => about(r.ms)], ["first token", (r) => r.first_token_ms == null ? null : about(r.first_token_ms)],
  ["added by Breakwater", (r) => r.added_ms == null ? null : about(r.added_ms)], ["tokens", (r) => `${many(r.tokens_in)} in, ${many(r.tokens_out)} out`
    + (r.tokens_cached ? `, ${many(r.tokens_cached)} cached` : "") + (r.tokens_reasoning ? `, ${many(r.tokens_reasoning)} reasoning` : "")],
  ["cost", (r) => money(r.cost_usd)], ["tenant", (r) => r.tenant], ["agent", (r) => r.agent], ["key", (r) => r.key], ["API", (r) => `${r.door}${r.stream ? ", stream" : ""}`],
  ["x-request-id", (r) => r.x_request_id],
];

function explained(r) {
  const facts = el("dl", "facts");
  for (const [name, text] of FACTS) if (text(r) != null) facts.append(tag("div", "", tag("dt", "", name), tag("dd", "", text(r))));
  const whole = Math.max(r.ms || 0, ...r.candidates.map((c) => (c.at_ms || 0) + (c.ms || 0)), 1);
  const list = tag("ol", "waterfall", ...r.candidates.map((c) => step(c, whole)));
  list.setAttribute("aria-label", "Candidates in order");
  const raw = tag("details", "", tag("summary", "", "as JSON"), Object.assign(tag("pre", "", JSON.stringify(r, null, 2)), { tabIndex: 0 }));
  return [facts, tag("h3", "", "Who was asked, and who was not"), list, raw];
}

const wasAsked = (c) => !c.outcome.startsWith("skipped") && c.outcome !== "not reached";

function step(c, whole) {
  const name = `${c.provider}${c.place ? ` (${c.place})` : ""}`, marks = [c.probe && "probe", c.hedge && `hedge ${c.hedge}`, c.seam && `went on by ${c.seam}`, c.session && "has the session", c.slow && "slow"];
  const item = tag("li", wasAsked(c) ? outcomeTone(c.outcome) : "off", tag("b", "", name), " ", tag("small", "", c.upstream_model || c.model || ""), " ", tag("span", "word", c.outcome));
  if (c.status) item.append(` ${c.status}`);
  if (marks.some(Boolean)) item.append(tag("small", "", ` · ${marks.filter(Boolean).join(" · ")}`));
  if (wasAsked(c)) item.append(bar(c, whole), tag("small", "", spans(c)));
  else if (c.state) item.append(tag("small", "", ` its circuit is ${c.state}${c.since_seconds == null ? "" : ` for ${long(c.since_seconds)}`}${c.retry_in_seconds == null ? "" : `, may be asked in ${long(c.retry_in_seconds)}`}`));
  if (c.message) item.append(tag("p", "error", c.message));
  return item;
}

const spans = (c) => [`began at ${about(c.at_ms ?? 0)}`, c.upstream_connect_ms != null && `connected in ${about(c.upstream_connect_ms)}`,
  c.first_token_ms != null && `first token after ${about(c.first_token_ms)}`, c.ms != null && `ended after ${about(c.ms)}`].filter(Boolean).join(", ");

function bar(c, whole) {
  const x = (ms) => 1000 * Math.max(0, ms) / whole, at = c.at_ms || 0, took = c.ms || 0, first = Math.min(c.first_token_ms ?? took, took), connect = Math.min(c.upstream_connect_ms || 0, first);
  const part = (name, from, to) => svg("rect", { class: name, x: x(at + from), y: 2, width: Math.max(x(to - from), to > from ? 1.5 : 0), height: 10 });
  return svg("svg", { class: "bar", viewBox: "0 0 1000 14", preserveAspectRatio: "none", role: "img", "aria-label": spans(c) },
    svg("rect", { class: "track", width: 1000, y: 6, height: 2 }), part("connect", 0, connect), part("wait", connect, first), part("flow", first, took));
}

PAGES.request = { title: "Request", async show(_, id, current) {
  put($("requestid"), id); said("request", "");
  $("copylink").onclick = (e) => copied(location.href, e.target);
  $("explained").replaceChildren();
  const told = await dataOf(`v1/requests/${encodeURIComponent(id)}`);
  if (current()) $("explained").replaceChildren(...explained(told));
} };
