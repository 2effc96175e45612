// OpenAI's own client for Node, as a program uses it. Each line in is a task, each line out is what came of it.
import readline from "node:readline";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const QUESTION = [{ role: "user", content: "What is the capital of France?" }];
const City = z.object({ city: z.string(), population: z.number().int() });
const usageOf = (usage) => [usage.prompt_tokens, usage.completion_tokens];

function weather(calls) {
  return {
    type: "function",
    function: {
      name: "get_weather",
      description: "Get the current weather in a city",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
      parse: JSON.parse,
      function: (given) => {
        calls.push(given);
        return "sunny, 21 degrees";
      },
    },
  };
}

async function loop(client, model, stream) {
  const calls = [];
  const messages = [{ role: "user", content: "What is the weather in Paris?" }];
  const more = stream ? { stream, stream_options: { include_usage: true } } : {};
  const asked = { model, messages, tools: [weather(calls)], max_completion_tokens: 40, ...more };
  const runner = client.chat.completions.runTools(asked);
  return { text: await runner.finalContent(), calls, usage: usageOf(await runner.totalUsage()) };
}

const tasks = {
  async whole(client, model) {
    const done = await client.chat.completions.create({ model, messages: QUESTION });
    const [choice] = done.choices;
    return { text: choice.message.content, finish: choice.finish_reason, usage: usageOf(done.usage) };
  },
  async stream(client, model) {
    const seen = { text: "", pieces: 0 };
    const asked = { model, messages: QUESTION, stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await client.chat.completions.create(asked)) {
      for (const { delta, finish_reason } of chunk.choices) {
        if (delta.content) seen.pieces += 1;
        seen.text += delta.content ?? "";
        seen.finish = finish_reason ?? seen.finish;
      }
      if (chunk.usage) seen.usage = usageOf(chunk.usage);
    }
    return seen;
  },
  tools: (client, model) => loop(client, model, false),
  tools_streamed: (client, model) => loop(client, model, true),
  async structured(client, model) {
    const asked = { model, messages: QUESTION, response_format: zodResponseFormat(City, "city") };
    return { object: (await client.chat.completions.parse(asked)).choices[0].message.parsed };
  },
  async cut(client, model) {
    const seen = [];
    try {
      const runner = client.chat.completions.stream({ model, messages: QUESTION });
      runner.on("content", (text) => seen.push(text));
      return { text: await runner.finalContent() };
    } catch (error) {
      return { raised: error.constructor.name, code: error.code, seen: seen.join("") };
    }
  },
  async unknown(client) {
    try {
      return { text: await client.chat.completions.create({ model: "gpt-17", messages: QUESTION }) };
    } catch (error) {
      return { raised: error.constructor.name, status: error.status, code: error.code };
    }
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { task, model, url } = JSON.parse(line);
  const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
  const said = await tasks[task](client, model).catch((error) => ({ failed: error.stack ?? String(error) }));
  console.log(JSON.stringify(said));
}
