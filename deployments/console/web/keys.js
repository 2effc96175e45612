// Keys: kept in this tab alone, asked for where the server wants one, and sent to no other server.
const keys = { get: (k) => sessionStorage.getItem(k), set: (k, v) => { sessionStorage.setItem(k, v); mine(); } };
const mine = () => { $("forget").hidden = !sessionStorage.length; };
$("forget").onclick = () => { sessionStorage.clear(); location.reload(); }; // what the keys showed goes too
const bearer = (key) => key ? { authorization: `Bearer ${key}` } : {};

function ask({ title, text, yes, howlong = false, secret = "", refused = "" }) {
  const box = $("ask"), form = box.querySelector("form"), key = $("secret").querySelector("input");
  put($("title"), title); put($("text"), text); put($("yes"), yes); put($("refused"), refused);
  put($("secret").querySelector("span"), secret);
  $("howlong").hidden = !howlong; $("secret").hidden = !secret; key.required = !!secret; key.value = "";
  if (!box.open) box.showModal();
  if (secret) key.focus();
  return new Promise((done) => {
    let answer = null;
    form.onsubmit = (e) => {
      e.preventDefault();
      if (/[^!-~]/.test(key.value.trim())) return put($("refused"), "This is no key: it has a blank, or a sign that no header takes.");
      answer = { key: key.value.trim(), seconds: form.querySelector("select").value };
      box.close();
    };
    $("no").onclick = () => box.close();
    box.onclose = () => { key.value = ""; done(answer); };
  });
}

// What the server says to a question; an Error with its own words where it refuses.
async function answerTo(path, key = keys.get("admin") || keys.get("reader")) {
  const response = await fetch(new URL(path, here), { cache: "no-store", headers: bearer(key) });
  if (response.ok) return response;
  throw await refusalOf(response);
}
async function refusalOf(response) {
  const { error = {} } = await response.json().catch(() => ({})); // a proxy between may say anything
  return Object.assign(new Error(error.message || `the server says ${response.status}`), { status: response.status, attempts: error.attempts });
}
const dataOf = async (path, key) => (await answerTo(path, key)).json();
const refuses = (error) => error.status === 401 || error.status === 403;

// The events of a stream, as far as they came.
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = "", end; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const data = text.slice(0, end).split("\n").filter((l) => l.startsWith("data: ")).map((l) => l.slice(6)).join("\n");
      text = text.slice(end + 2);
      if (data) yield data;
    }
  }
}

$("operate").onclick = async () => {
  const got = await ask({ title: "Admin key", text: "It shows the traffic of all tenants, and lets you command providers. It is kept in this tab only.",
    yes: "Use it", secret: "Admin key" });
  if (got) { keys.set("admin", got.key); forgetList(); show(); }
};

const VERBS = {
  isolate: ["Isolate", "New requests go round it, until its time is over or it is restored. What is under way goes on."],
  restore: ["Restore", "It takes part again, in the state that its circuit has."],
  recover: ["Recover", "The next request tries it, whatever its circuit says; if it is answered, the circuit closes."],
  reset: ["Reset", "Its circuit closes and its figures are forgotten."],
};

// Sends what needs the admin key, and asks for it until it is taken. False if the operator has thought better of it.
async function commanded(path, { method, body, title, text, yes, howlong = false, sure = false }) {
  const url = new URL(path, here);
  for (let refused = "", wrong = false; ;) {
    let key = keys.get("admin") || keys.get("reader");
    if (!sure || !key || refused) {
      const got = await ask({ title, text, yes, refused, howlong, secret: !key || wrong ? "Admin key" : "" });
      if (!got) return false;
      sure = true;
      key = got.key || key;
      if (howlong) url.searchParams.set("seconds", got.seconds);
    }
    try {
      const headers = { ...bearer(key), ...(body ? { "content-type": "application/json" } : {}) };
      const response = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
      if (response.ok) { keys.set("admin", key); return true; }
      wrong = response.status === 401;
      refused = !wrong ? (await response.json()).error.message
        : key === keys.get("reader") ? "This needs the admin key." : "This admin key was refused.";
      if (wrong) sessionStorage.removeItem("admin");
    } catch { refused = "The server could not be reached."; }
  }
}

async function command(name, verb) {
  const [label, text] = VERBS[verb];
  const done = await commanded(`v1/providers/${encodeURIComponent(name)}/${verb}`, { method: "POST", title: `${label} ${name}?`, text,
    yes: label, howlong: verb === "isolate", sure: verb === "restore" || verb === "recover" });
  if (!done) return;
  note(`${name}: ${verb} done`);
  if (page !== "overview") show();
}
