// The line to the server.
let heard = performance.now(), began = heard, lostAt = null, stop = null;

function take(data) {
  draw(JSON.parse(data));
  heard = performance.now();
  if (lostAt) note("connected again");
  lostAt = null; $("lost").hidden = true; dress(document.body, ""); put($("line"), "live");
}

function tick() {
  const silent = performance.now() - heard;
  if (silent > 3000 && now) {
    lostAt = lostAt || new Date(Date.now() - silent);
    $("lost").hidden = false; dress(document.body, "old"); put($("line"), "not live"); entitle();
    put($("lost"), `Connection lost at ${dated(lostAt)}. What you see is how it was then.`);
  } else for (const [box, [from, say]] of clocks) put(box, say((performance.now() - from) / 1000));
  if (performance.now() - Math.max(heard, began) > 6000) stop.abort();
}
setInterval(tick, 250);

async function listen() {
  stop = new AbortController();
  began = performance.now();
  const key = keys.get("reader") || keys.get("admin");
  const response = await fetch(new URL("v1/events", here), {
    headers: bearer(key), signal: stop.signal, cache: "no-store" });
  if (response.status === 401) {
    let got = null;
    while (!got) got = await ask({ title: "A key is needed", text: "Any API key, or the admin key. It is kept in this tab only.",
      yes: "Look", secret: "Key", refused: key ? "This key was refused." : "" });
    keys.set("reader", got.key);
    return show();
  }
  if (!response.ok) throw new Error(`the server says ${response.status}`);
  for await (const data of eventsOf(response)) take(data);
  if (heard < began) throw new Error("the server says nothing");
}

(async () => {
  mine();
  if ($("first").textContent) draw(JSON.parse($("first").textContent));
  show();
  for (let pause = 100; ; pause = Math.min(2 * pause, 4000)) {
    try { await listen(); pause = 100; } catch (error) {
      if (!now) put($("line"), `not connected: ${error.message}`);
    }
    await new Promise((go) => setTimeout(go, pause));
  }
})();
