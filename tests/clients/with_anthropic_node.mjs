// Anthropic's own client for Node, as a program uses it. Each line in is a task, each line out is what came of it.
import readline from "node:readline";
import Anthropic from "@anthropic-ai/sdk";

const QUESTION = [{ role: "user", content: "What is the capital of France?" }];
const FINISHES = { end_turn: "stop" };
const WEATHER = {
  name: "get_weather",
  description: "Get the current weather in a city",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const CITY = {
  type: "object",
  properties: { city: { type: "string" }, population: { type: "integer" } },
  required: ["city", "population"],
  additionalProperties: false,
};
const textOf = (message) => message.content.map((block) => (block.type === "text" ? block.text : "")).join("");
const sum = (messages, name) => messages.reduce((all, message) => all + message.usage[name], 0);
const usageOf = (...messages) => [sum(messages, "input_tokens"), sum(messages, "output_tokens")];

async function loop(model, ask) {
  const asked = { model, tools: [WEATHER], max_tokens: 40 };
  const messages = [{ role: "user", content: "What is the weather in Paris?" }];
  const first = await ask({ ...asked, messages });
  const calls = first.content.filter((block) => block.type === "tool_use");
  const results = calls.map(({ id }) => ({ type: "tool_result", tool_use_id: id, content: "sunny, 21 degrees" }));
  messages.push({ role: "assistant", content: first.content }, { role: "user", content: results });
  const second = await ask({ ...asked, messages });
  return { text: textOf(second), calls: calls.map(({ input }) => input), usage: usageOf(first, second) };
}

const tasks = {
  async whole(client, model) {
    const done = await client.messages.create({ model, messages: QUESTION, max_tokens: 200 });
    return { text: textOf(done), finish: FINISHES[done.stop_reason], usage: usageOf(done) };
  },
  async stream(client, model) {
    const pieces = [];
    const stream = client.messages.stream({ model, messages: QUESTION, max_tokens: 200 });
    stream.on("text", (text) => pieces.push(text));
    const done = await stream.finalMessage();
    const text = pieces.join("");
    return { text, pieces: pieces.length, finish: FINISHES[done.stop_reason], usage: usageOf(done) };
  },
  tools: (client, model) => loop(model, (asked) => client.messages.create(asked)),
  tools_streamed: (client, model) => loop(model, (asked) => client.messages.stream(asked).finalMessage()),
  async structured(client, model) {
    const output_config = { format: { type: "json_schema", schema: CITY } };
    const done = await client.messages.create({ model, messages: QUESTION, max_tokens: 200, output_config });
    return { object: JSON.parse(textOf(done)) };
  },
  async cut(client, model) {
    const seen = [];
    try {
      const stream = client.messages.stream({ model, messages: QUESTION, max_tokens: 200 });
      stream.on("text", (text) => seen.push(text));
      return { text: textOf(await stream.finalMessage()) };
    } catch (error) {
      return { raised: error.constructor.name, code: error.error?.error?.code ?? null, seen: seen.join("") };
    }
  },
  async unknown(client) {
    try {
      return { text: textOf(await client.messages.create({ model: "gpt-17", messages: QUESTION, max_tokens: 9 })) };
    } catch (error) {
      return { raised: error.constructor.name, status: error.status, code: error.error?.error?.code ?? null };
    }
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { task, model, url } = JSON.parse(line);
  const client = new Anthropic({ baseURL: url.replace(/\/v1$/, ""), apiKey: "none", maxRetries: 0 });
  const said = await tasks[task](client, model).catch((error) => ({ failed: error.stack ?? String(error) }));
  console.log(JSON.stringify(said));
}
