// Which page is shown: the part of the address behind `#`, so that the console works below any path, and a filter or a
// key of a link never reaches the log of a server between.
// name: {title, show(parameters, rest, current), every}. `every` so many seconds it is shown again while it is looked at;
// `current()` says whether it is still what is asked for, after each wait.
const PAGES = Object.create(null);
let page = null, turn = 0;

const decoded = (text) => { try { return decodeURIComponent(text); } catch { return text; } };
const route = () => {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?"), [name, ...rest] = path.split("/");
  return { name: name || "overview", rest: decoded(rest.join("/")), query: new URLSearchParams(query) };
};
const go = (path, query = {}) => {
  const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  location.hash = `#/${path}${given.size ? `?${given}` : ""}`;
};

function entitle() {
  const state = lostAt ? "not live" : now ? now.health : "connecting", title = PAGES[page]?.title;
  document.title = `${title ? `${title}: ` : ""}${state} - Breakwater`;
}

async function show() {
  const { name, rest, query } = route(), asked = name === "requests" && rest ? "request" : name, found = PAGES[asked] ? asked : "overview";
  const moved = found !== page;
  page = found;
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== page;
  for (const link of $("nav").children) {
    if (link.hash === `#/${page === "overview" ? "" : page === "request" ? "requests" : page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  entitle();
  if (moved && turn) { $("main").focus({ preventScroll: true }); scrollTo(0, 0); }
  await shown(++turn, query, rest);
}

async function shown(mine, query, rest) {
  const { show, every } = PAGES[page];
  try { await show(query, rest, () => mine === turn); } catch (error) {
    if (mine === turn && error.name !== "AbortError" && $(page).querySelector(".said")) said(page, error.message);
  }
  if (!every || mine !== turn) return;
  await new Promise((later) => setTimeout(later, 1000 * every));
  while (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
  if (mine === turn) shown(mine, query, rest);
}

addEventListener("hashchange", show);
$("skip").onclick = (e) => { e.preventDefault(); $("main").focus(); };
$("add").onclick = () => { go(""); $("keys").scrollIntoView(); };

// A form whose fields are the filters in the address.
function filtered(section) {
  const form = $(section).querySelector("form.filters");
  form.onsubmit = (e) => {
    e.preventDefault();
    go(section, Object.fromEntries(new FormData(form)));
  };
  for (const choice of form.querySelectorAll("select, [type=checkbox]")) choice.onchange = () => form.requestSubmit();
  const fields = [...form.elements].filter((field) => field.name);
  let filled = null;
  const usual = (field) => field.tagName === "SELECT" ? field.dataset.usual ?? field.options[0].value : "";
  // What the address says. Fields are filled when it has changed alone: else a poll would take away what is being typed.
  return (query) => {
    const asked = Object.fromEntries(fields.map((field) => [field.name, query.get(field.name) ?? usual(field)]).filter(([, value]) => value));
    if (filled !== (filled = query.toString())) {
      for (const field of fields) {
        if (field.type === "checkbox") field.checked = asked[field.name] === field.value;
        else field.value = asked[field.name] ?? "";
      }
    }
    return asked;
  };
}
