// The overview: traffic of the last hour and day beside what the feed shows.
const CARDS = [
  ["Requests", (f) => f.requests, many, (f) => f.requests ? `${percent(f.answered, f.requests)} answered` : ""],
  ["Tokens", (f) => f.tokens_in + f.tokens_out, many, (f) => `${many(f.tokens_in)} in, ${many(f.tokens_out)} out`],
  ["Cost", (f) => f.cost_usd, money, (f) => f.abandoned_cost_usd ? `${money(f.abandoned_cost_usd)} of it for no answer` : ""],
  ["Failed over", (f) => f.failed_over, many, (f) => f.requests ? `${percent(f.failed_over, f.requests)} of requests` : ""],
];
const SPANS = [["hour", "last hour"], ["day", "last day"]];

function card([title, figure, say, more], traffic) {
  const made = tag("section", "card", tag("h3", "", title));
  made.setAttribute("aria-label", title);
  for (const [span, words] of SPANS) {
    const { slots, totals, slot_seconds: seconds } = traffic[span];
    const labels = slots.map(({ at }) => new Date(1000 * at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" }));
    const chart = stacked([{ name: title, values: slots.map(figure), colour: 0 }], labels, say, { high: 34, title: `${title}, ${words}, bars of ${long(seconds)}` });
    made.append(tag("p", "", tag("b", "", say(figure(totals))), ` ${words} `, tag("small", "", more(totals))), chart);
  }
  return made;
}

const times = (name, t) => t.count ? `${name}: p50 ${about(t.p50)}, p95 ${about(t.p95)}` : "";

async function drawTraffic(current) {
  let traffic;
  try { traffic = await dataOf("v1/traffic"); } catch (error) {
    if (!current()) return;
    put($("notraffic"), error.status === 401 ? "The traffic of all tenants needs the admin key." : `No figures of the traffic: ${error.message}`);
    $("operate").hidden = error.status !== 401;
    $("notraffic").hidden = false; $("traffic").hidden = true;
    return;
  }
  if (!current()) return;
  $("operate").hidden = $("notraffic").hidden = true; $("traffic").hidden = false;
  $("traffic").querySelector(".cards").replaceChildren(...CARDS.map((c) => card(c, traffic)));
  const idle = !traffic.day.totals.requests;
  put($("percentiles"), idle ? "No request in the last day. Send one: “Try it” above does, and shows the curl and the Python for it."
    : SPANS.map(([span, words]) => [times("first token", traffic[span].first_token_ms), times("added by Breakwater", traffic[span].added_ms)]
      .filter(Boolean).join("; ")).map((text, i) => text && `${SPANS[i][1]}: ${text}`).filter(Boolean).join(" · "));
}

async function drawAlerts() {
  const told = await dataOf("v1/alerts").catch((error) => refuses(error) ? { data: [] } : { data: alerts, trouble: error.message });
  const { data, trouble } = told;
  alerts = data;
  $("alerts").hidden = !data.length && !trouble;
  const shown = trouble ? [{ name: "Alerts", severity: "warning", summary: trouble }, ...data] : data;
  each($("alerts").querySelector("ul"), shown, () => tag("li", "", el("span", "word"), " ", el("b"), " ", el("span"), " ", el("small")), (li, a) => {
    const [severity, , name, , summary, , more] = li.childNodes;
    dress(li, a.severity === "critical" || a.severity === "page" ? "bad" : "warn");
    put(severity, a.severity || "alert"); put(name, a.name); put(summary, a.summary || "");
    put(more, [a.since && `since ${moment(Date.parse(a.since))}`, a.runbook].filter(Boolean).join(" · "));
  });
}

let alertsAt = -Infinity, alerts = [];
PAGES.overview = { title: "", every: 5, async show(_, __, current) {
  const due = performance.now() - alertsAt > 15000;
  if (due) alertsAt = performance.now();
  await Promise.all([drawTraffic(current), due && drawAlerts()]);
} };
