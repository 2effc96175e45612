// Try it: one chat completion over this server's own API, the explanation beside the answer, and the same call as code.
const ROLES = ["user", "system", "assistant"];
let stopTry = null;

function addMessage(role, content = "") {
  const choice = tag("select", "", ...ROLES.map((name) => Object.assign(tag("option", "", name), { selected: name === role })));
  const text = Object.assign(el("textarea"), { rows: 3, value: content }), number = $("messages").children.length + 1;
  choice.setAttribute("aria-label", `role of message ${number}`); text.setAttribute("aria-label", `text of message ${number}`);
  const gone = Object.assign(tag("button", "", "Remove"), { type: "button" });
  gone.setAttribute("aria-label", `Remove message ${number}`);
  const box = tag("div", "message", choice, gone, text);
  gone.onclick = () => { box.remove(); drawCode(); };
  $("messages").append(box);
}

const json = (name, text, usual) => {
  if (!text.trim()) return usual;
  try { return JSON.parse(text); } catch (error) { throw new Error(`${name}: ${error.message}`); }
};

function bodyOf(form) {
  const messages = [...$("messages").children].map((box) => ({ role: box.querySelector("select").value, content: box.querySelector("textarea").value }));
  const tools = json("tools", form.tools.value, []), more = json("more fields", form.more.value, {});
  return { model: form.model.value, messages, ...(tools.length ? { tools } : {}), ...(form.stream.checked ? { stream: true } : {}), ...more };
}

// A text in single quotes of a shell.
const quoted = (text) => `'${text.replace(/'/g, `'\\''`)}'`;
const python = (value, deep = 1) => {
  const pad = "    ".repeat(deep);
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return value.length ? `[\n${value.map((v) => `${pad}    ${python(v, deep + 1)},\n`).join("")}${pad}]` : "[]";
  if (typeof value === "object") return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${python(v, deep)}`).join(", ")}}`;
  return JSON.stringify(value);
};

function drawCode() {
  const form = $("prompt"), keyed = keys.get("reader") || keys.get("admin");
  let body;
  try { body = bodyOf(form); } catch (error) { return put($("wrong"), error.message); }
  put($("wrong"), "");
  const url = new URL("v1/chat/completions", here), pretty = JSON.stringify(body);
  put($("curl"), `curl ${body.stream ? "-N " : ""}${quoted(url.href)} \\\n  -H 'content-type: application/json' \\\n${keyed ? "  -H \"authorization: Bearer $BREAKWATER_KEY\" \\\n" : ""}  -d ${quoted(pretty)}`);
  const { stream, ...others } = body, key = keyed ? "os.environ[\"BREAKWATER_KEY\"]" : "\"any\"";
  const known = ["model", "messages", "tools", "temperature", "max_tokens", "top_p", "stop", "seed"], extra = Object.fromEntries(Object.entries(others).filter(([k]) => !known.includes(k)));
  const given = Object.entries(others).filter(([k]) => known.includes(k)).map(([k, v]) => `    ${k}=${python(v)},\n`).join("");
  const rest = Object.keys(extra).length ? `    extra_body=${python(extra)},\n` : "";
  const end = stream ? "for chunk in answer:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or \"\", end=\"\", flush=True)\n" : "print(answer.choices[0].message.content)\n";
  put($("python"), `${keyed ? "import os\n\n" : ""}from openai import OpenAI\n\nclient = OpenAI(base_url=${JSON.stringify(new URL("v1", here).href)}, api_key=${key})\nanswer = client.chat.completions.create(\n${given}${stream ? "    stream=True,\n" : ""}${rest})\n${end}`);
}

// Returns the explanation, and what was wrong with the stream's end.
async function streamed(response, box) {
  let ended = false, told = null, calls = "", broken = "";
  for await (const data of eventsOf(response)) {
    if (data === "[DONE]") { ended = true; continue; }
    const chunk = JSON.parse(data), delta = chunk.choices?.[0]?.delta;
    if (chunk.breakwater?.explained) told = chunk.breakwater.explained;
    if (chunk.error) broken = `The stream broke off: ${chunk.error.message} `;
    if (delta?.content) box.append(delta.content);
    for (const call of delta?.tool_calls || []) calls += `${call.function?.name ? `\n${call.function.name}: ` : ""}${call.function?.arguments || ""}`;
  }
  if (calls) box.append(calls);
  return [told, broken || (ended ? "" : "The stream ended without [DONE]: this is no whole answer. ")];
}

// Chats want an API key; the admin key is none.
async function posted(body, signal) {
  for (let refused = ""; ;) {
    const headers = { "content-type": "application/json", "x-breakwater-explain": "true", ...bearer(keys.get("reader") || keys.get("admin")) };
    const response = await fetch(new URL("v1/chat/completions", here), { method: "POST", headers, body: JSON.stringify(body), signal });
    if (response.status !== 401) return response;
    const got = await ask({ title: "An API key is needed", text: "Chats need an API key. It is kept in this tab only.", yes: "Send", secret: "API key", refused });
    if (!got) return response;
    refused = "This key was refused.";
    keys.set("reader", got.key);
  }
}

async function tryIt() {
  const form = $("prompt"), box = $("answer"), body = bodyOf(form), began = performance.now(), send = form.querySelector("button.yes");
  box.replaceChildren(); $("tried").replaceChildren(); said("try", "waiting for an answer");
  stopTry = new AbortController(); $("stopit").disabled = false; send.disabled = true;
  let id = null, told = null;
  try {
    const response = await posted(body, stopTry.signal);
    id = response.headers.get("x-breakwater-request-id");
    if (!response.ok) throw await refusalOf(response);
    said("try", "");
    let broken = "";
    if (body.stream) [told, broken] = await streamed(response, box);
    else told = whole(await response.json(), box);
    said("try", `${broken}${response.headers.get("x-breakwater-provider")} answered, in ${about(performance.now() - began)}`);
  } catch (error) {
    said("try", error.name === "AbortError" ? "You stopped it." : error.status ? `${error.status}: ${error.message}` : error.message);
    told = error.attempts && { attempts: error.attempts };
  } finally {
    stopTry = null; $("stopit").disabled = true; send.disabled = false;
    drawTried(told, id);
  }
}

function whole(answer, box) {
  const message = answer.choices?.[0]?.message;
  box.append(message?.content || "", ...(message?.tool_calls || []).map((c) => `\n${c.function.name}: ${c.function.arguments}`));
  return answer.breakwater?.explained;
}

function drawTried(told, id) {
  const parts = told?.candidates ? explained(told) : told?.attempts ? [tag("ol", "waterfall", ...told.attempts.map((a) => step(a, Math.max(1, ...told.attempts.map((o) => o.ms || 0)))))] : [];
  if (id) parts.push(tag("p", "", Object.assign(tag("a", "", "Its page"), { href: `#/requests/${encodeURIComponent(id)}` })));
  $("tried").replaceChildren(...parts);
}

async function drawModels() {
  const { data } = await dataOf("v1/models", keys.get("reader") || keys.get("admin")), pinned = now ? now.tiers.flatMap((t) => t.targets.map((c) => c.name.replace(/#[^/]*/, ""))) : [];
  $("models").replaceChildren(...[...new Set([...data.map((m) => m.id), ...pinned])].map((value) => Object.assign(el("option"), { value })));
}

$("prompt").oninput = drawCode;
$("prompt").onsubmit = (e) => { e.preventDefault(); tryIt().catch((error) => said("try", error.message)); };
$("stopit").onclick = () => stopTry?.abort();
$("addmessage").onclick = () => { addMessage("user"); drawCode(); };
for (const button of document.querySelectorAll(".copy")) button.onclick = () => copied(button.nextElementSibling.textContent, button);
addMessage("user", "What is the capital of France?");

PAGES.try = { title: "Try it", async show(query) {
  if (query.get("model")) $("prompt").model.value = query.get("model");
  drawCode();
  await drawModels().catch((error) => { if (!refuses(error)) throw error; });
} };
