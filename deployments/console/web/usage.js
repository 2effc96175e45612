// Usage: a stacked chart by day, the same as a table, and how much of each limit is used.
const readUsage = filtered("usage");
const FIGURE = {
  cost: ["Cost", (r) => r.cost_usd || 0, money], requests: ["Requests", (r) => r.requests, many],
  tokens: ["Tokens", (r) => r.tokens_in + r.tokens_out, many],
};
const COLUMNS = [
  ["requests", (r) => many(r.requests)], ["attempts", (r) => many(r.attempts)], ["tokens in", (r) => many(r.tokens_in)], ["out", (r) => many(r.tokens_out)],
  ["cached", (r) => many(r.tokens_cached)], ["cost", (r) => money(r.cost_usd)], ["failed attempts", (r) => money(r.failed_cost_usd)],
  ["hedges", (r) => money(r.hedged_cost_usd)], ["cancelled", (r) => money(r.cancelled_cost_usd)],
];
const DAY = 86400000, day = (ms) => new Date(ms).toISOString().slice(0, 10);

const firstDay = (word) => word === "all" ? "" : word === "month" ? `${day(Date.now()).slice(0, 7)}-01` : day(Date.now() - DAY * (word - 1));

function question({ by, since: word, show: _, ...filters }, groups) {
  const asked = new URLSearchParams({ ...filters, group_by: groups.join(",") });
  if (firstDay(word)) asked.set("since", firstDay(word));
  return `v1/usage?${asked}`;
}

// The groups that have most, and one of all others.
function seriesOf(rows, by, figure, days) {
  const sums = new Map();
  for (const row of rows) sums.set(row[by], (sums.get(row[by]) || 0) + figure(row));
  const names = [...sums.keys()].sort((a, b) => sums.get(b) - sums.get(a)), own = names.slice(0, COLOURS - 1);
  const series = own.map((name, colour) => ({ name: name ?? "none", values: days.map(() => 0), colour }));
  if (names.length > own.length) series.push({ name: `${names.length - own.length} others`, values: days.map(() => 0), colour: COLOURS - 1 });
  for (const row of rows) {
    const at = own.indexOf(row[by]);
    const slot = days.indexOf(row.day);
    if (slot >= 0) series[at < 0 ? series.length - 1 : at].values[slot] += figure(row);
  }
  return series.filter((s) => s.values.some(Boolean));
}

function daysOf(rows, word) {
  const first = firstDay(word) || rows.map((r) => r.day).sort()[0] || day(Date.now()), days = [];
  for (let at = Date.parse(first); at <= Date.now(); at += DAY) days.push(day(at));
  return days.slice(-400);
}

function drawTable(table, head, rows) {
  table.replaceChildren(headOf(head), tag("tbody", "", ...rows.map(([first, ...others]) =>
    tag("tr", "", Object.assign(tag("th", "", first), { scope: "row" }), ...others.map((text) => tag("td", "", text))))));
}

async function drawUsage(query, current) {
  const asked = readUsage(query), [title, figure, say] = FIGURE[asked.show];
  // More names than an answer has groups have no chart; they may have a table.
  const [byDay, sums] = await Promise.all([dataOf(question(asked, ["day", asked.by])).catch((error) => ({ data: [], error })), dataOf(question(asked, [asked.by]))]);
  if (!current()) return;
  const rows = byDay.data, days = daysOf(rows, asked.since), series = seriesOf(rows, asked.by, figure, days);
  const chart = stacked(series, days, say, { high: 60, title: `${title} by ${asked.by} and day` });
  chart.classList.add("tall");
  $("usagechart").replaceChildren(...(series.length ? [chart, tag("p", "ends", tag("span", "", days[0]), tag("span", "", days.at(-1))), legend(series, say)] : []));
  said("usage", !sums.data.length ? "Nothing was used in this time, with these filters." : byDay.error ? `No chart: ${byDay.error.message}` : "");
  const sorted = [...sums.data].sort((a, b) => figure(b) - figure(a));
  drawTable($("usagetable"), [asked.by, ...COLUMNS.map(([name]) => name)], sorted.map((r) => [r[asked.by] ?? "none", ...COLUMNS.map(([, text]) => text(r))]));
  $("csv").onclick = () => saved(`${question(asked, ["day", asked.by])}&format=csv`, `usage-by-${asked.by}.csv`).catch((e) => said("usage", e.message));
}

async function saved(path, name) {
  const link = el("a"), url = URL.createObjectURL(await (await answerTo(path)).blob());
  Object.assign(link, { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const LIMITS = { monthly_cost: ["this month", money], requests_per_minute: ["requests a minute", many], tokens_per_minute: ["tokens a minute", many] };

async function drawLimits(current) {
  const { data, error } = await dataOf("v1/limits").catch((error) => ({ data: [], error }));
  if (!current()) return;
  $("nolimits").hidden = data.length > 0;
  put($("nolimits"), error ? error.message : "No tenant and no key has a limit. `limits` of the config sets them.");
  each($("limits"), data, () => tag("li", "", el("b"), " ", el("span"), el("meter")), (li, l) => {
    const [name, , text, meter] = li.childNodes, [words, say] = LIMITS[l.limit];
    put(name, l.subject.replace(":", " ")); put(text, `${say(l.used)} of ${say(l.most)} ${words} (${percent(l.used, l.most)})`);
    Object.assign(meter, { min: 0, max: 1, high: .9, value: l.share });
    meter.setAttribute("aria-label", `${l.subject.replace(":", " ")}, ${words}`);
  });
}

PAGES.usage = { title: "Usage", every: 15, async show(query, _, current) { await Promise.all([drawUsage(query, current), drawLimits(current)]); } };
