"use strict";
// Elements, and words for figures. Nothing here makes markup of data: all text is set as text.
const $ = (id) => document.getElementById(id);
const el = (name, className = "") => Object.assign(document.createElement(name), { className });
const put = (box, text) => { if (box.textContent !== text) box.textContent = text; };
const dress = (box, name) => { if (box.className !== name) box.className = name; };
const here = new URL(location.pathname.replace(/\/?$/, "/"), location.href);
const each = (box, items, make, fill) => {
  while (box.children.length > items.length) box.lastElementChild.remove();
  items.forEach((item, i) => fill(box.children[i] || box.appendChild(make()), item, i));
};
const tag = (name, className, ...inside) => { const made = el(name, className); made.append(...inside); return made; };
const svg = (name, attributes = {}, ...inside) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
};
const headOf = (names) => tag("thead", "", tag("tr", "", ...names.map((name) => Object.assign(tag("th", "", name), { scope: "col" }))));
const said = (section, text) => put($(section).querySelector(".said"), text);

const TONES = { healthy: "good", ramping: "warn", silent: "warn", slow: "warn", probing: "warn", "half-open": "warn", open: "bad",
  isolated: "held", resting: "warn", degraded: "warn", unhealthy: "bad", "left out": "off", unused: "off" };
const MARKS = { good: "M2 8l4 4l8-8", warn: "M8 2v7M8 12v2", bad: "M3 3l10 10M13 3l-10 10", held: "M5 2v12M11 2v12", off: "M2 8h12" };
const tone = (word) => TONES[word] || (word.startsWith("partly") ? "warn" : "off");
const long = (s) => s < 100 ? `${Math.ceil(s)} s` : s < 5400 ? `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`
  : s < 172800 ? `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min` : `${Math.floor(s / 86400)} days`;
const about = (ms) => ms == null ? "–" : ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
const clock = (at = new Date()) => at.toLocaleTimeString("en-GB");
const dated = (at) => `${at.toLocaleDateString("en-CA")} ${clock(at)}`;
const moment = (ms) => dated(new Date(ms));
const money = (usd) => usd == null ? "unknown" : usd === 0 ? "$0" : `$${usd.toLocaleString("en-US", usd < 1
  ? { maximumSignificantDigits: 3 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
const many = (n) => n == null ? "–" : n < 1e4 ? n.toLocaleString("en-US", { maximumFractionDigits: 1 })
  : n < 1e6 ? `${+(n / 1e3).toPrecision(3)} k` : n < 1e9 ? `${+(n / 1e6).toPrecision(3)} M` : `${+(n / 1e9).toPrecision(3)} G`;
const fault = (e, at) => e ? `${e.kind}${e.status ? ` ${e.status}` : ""}${e.message ? `: ${e.message}` : ""}${
  e.at ? ` (${long(Math.max(0, at - e.at))} ago)` : ""}` : "";

async function copied(text, button) {
  const before = button.dataset.usual ??= button.textContent;
  try { await navigator.clipboard.writeText(text); put(button, "Copied"); } catch { put(button, "The browser does not let me"); }
  setTimeout(() => put(button, before), 1500);
}
