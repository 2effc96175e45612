// Vercel's AI SDK, as a program uses it. Each line in is a task, each line out is what came of it.
import readline from "node:readline";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const QUESTION = "What is the capital of France?";
const City = z.object({ city: z.string(), population: z.number().int() });
const usageOf = (usage) => [usage.inputTokens, usage.outputTokens];

function loop(model, calls) {
  const get_weather = tool({
    description: "Get the current weather in a city",
    inputSchema: z.object({ city: z.string() }),
    execute: (given) => {
      calls.push(given);
      return "sunny, 21 degrees";
    },
  });
  const prompt = "What is the weather in Paris?";
  return { model, prompt, tools: { get_weather }, stopWhen: stepCountIs(5), maxOutputTokens: 40, maxRetries: 0 };
}

// An error in mid-stream is a part of the stream here, and no text of it.
async function read(result) {
  const seen = { text: "", pieces: 0 };
  for await (const part of result.fullStream) {
    if (part.type === "error") throw Object.assign(part.error, { seen: seen.text });
    if (part.type === "text-delta") {
      seen.pieces += 1;
      seen.text += part.text;
    }
  }
  return { ...seen, finish: await result.finishReason, usage: usageOf(await result.totalUsage) };
}

const tasks = {
  async whole(model) {
    const done = await generateText({ model, prompt: QUESTION, maxRetries: 0 });
    return { text: done.text, finish: done.finishReason, usage: usageOf(done.usage) };
  },
  stream: (model) => read(streamText({ model, prompt: QUESTION, maxRetries: 0, onError() {} })),
  async tools(model) {
    const calls = [];
    const done = await generateText(loop(model, calls));
    return { text: done.text, calls, usage: usageOf(done.totalUsage) };
  },
  async tools_streamed(model) {
    const calls = [];
    return { ...(await read(streamText({ ...loop(model, calls), onError() {} }))), calls };
  },
  async structured(model) {
    const output = Output.object({ schema: City });
    return { object: (await generateText({ model, prompt: QUESTION, output, maxRetries: 0 })).output };
  },
  async cut(model) {
    try {
      return await read(streamText({ model, prompt: QUESTION, maxRetries: 0, onError() {} }));
    } catch (error) {
      return { raised: error.constructor.name ?? typeof error, code: error.code ?? null, seen: error.seen ?? null };
    }
  },
  async unknown(_, provider) {
    try {
      return await tasks.whole(provider("gpt-17"));
    } catch (error) {
      const code = error.data?.error?.code ?? null;
      return { raised: error.name, status: error.statusCode, code };
    }
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { task, model, url } = JSON.parse(line);
  const provider = createOpenAICompatible({
    name: "breakwater",
    baseURL: url,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
  const said = await tasks[task](provider(model), provider).catch((error) => ({ failed: error.stack ?? String(error) }));
  console.log(JSON.stringify(said));
}
