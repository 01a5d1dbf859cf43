// OpenAI's JavaScript client against the server at OPENAI_BASE_URL; see check.py, which also validates types.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.CLIENT_MODULES, "package.json"));
const OpenAI = require("openai");
const { VERSION } = require("openai/version");

const model = "tiny";
const messages = [{ role: "user", content: "Hello" }];
// Few answers, so that a model that knows nothing finishes one.
const city = { enum: ["Oslo", "Paris"] };
const parameters = { type: "object", properties: { city }, required: ["city"], additionalProperties: false };
const weather = { name: "get_weather", description: "Tells the weather.", parameters };
// The control token that opens a message, and a word: see check.py.
const words = { 200008: 100, 24912: 100 };
const bias = (...tokens) => Object.fromEntries(tokens.map((token) => [token, 100]));
// What the header of a call begins with.
const calls = bias(200005, 12606, 316);
const client = new OpenAI({ maxRetries: 0, timeout: 120_000 });
const chat = (more) => client.chat.completions.create({ model, messages, ...more });

async function all(stream) {
  const found = [];
  for await (const one of stream) found.push(one);
  return found;
}

const checks = {
  async models() {
    assert.deepEqual((await all(client.models.list())).map((one) => one.id), [model]);
  },

  async chats() {
    let seed = 0;
    const ask = (more) => chat({ seed, max_tokens: 12, logit_bias: words, ...more });
    const isPlain = ({ message, warnings = [] }) =>
      message.content.includes("hello") && !warnings.some(({ code }) => code === "call-not-allowed");
    while (!isPlain((await ask()).choices[0])) assert(++seed < 300, "no seed gives words");
    const whole = await ask();
    const chunks = await all(await ask({ stream: true, stream_options: { include_usage: true } }));
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(chunks.at(-1).usage.completion_tokens, 12);
    // The client's own accumulation of a stream.
    const runner = client.chat.completions.stream({ model, messages, seed, max_tokens: 12, logit_bias: words });
    assert.equal((await runner.finalChatCompletion()).choices[0].message.content, text);
  },

  async reasoning() {
    // Warm enough that the model does not say one word for ever.
    const fields = { max_tokens: 12, temperature: 2, logit_bias: { 200005: 100, 35644: 100, 200008: 100 } };
    let seed = 0;
    let whole = await chat({ ...fields, seed });
    while (whole.usage.completion_tokens_details.reasoning_tokens < 2) {
      assert(++seed < 100, "no seed gives a thought");
      whole = await chat({ ...fields, seed });
    }
    const chunks = await all(await chat({ ...fields, seed, stream: true }));
    const thought = chunks.map((chunk) => chunk.choices[0].delta.reasoning_content ?? "").join("");
    assert.equal(thought, whole.choices[0].message.reasoning_content);
  },

  async tools() {
    const choice = { type: "function", function: { name: "get_weather" } };
    const fields = {
      tools: [{ type: "function", function: weather }], tool_choice: choice, seed: 1, top_k: 8, max_tokens: 250, logit_bias: calls,
    };
    const { message } = (await chat(fields)).choices[0];
    const [call] = message.tool_calls;
    assert.equal(call.function.name, "get_weather");
    assert(["Oslo", "Paris"].includes(JSON.parse(call.function.arguments).city), call.function.arguments);
    const deltas = (await all(await chat({ ...fields, stream: true }))).flatMap((c) => c.choices[0].delta.tool_calls ?? []);
    assert.equal(deltas.map((delta) => delta.function.arguments).join(""), call.function.arguments);
    const reply = { role: "tool", tool_call_id: call.id, content: "rain" };
    const answered = await chat({ messages: [...messages, message, reply], tools: fields.tools, max_tokens: 4 });
    assert.equal(answered.usage.completion_tokens, 4);
  },

  async formats() {
    const schema = { name: "weather", strict: true, schema: weather.parameters };
    const fields = { seed: 1, top_k: 8, max_tokens: 250, logit_bias: bias(200005, 17196) };
    const { message } = (await chat({ ...fields, response_format: { type: "json_schema", json_schema: schema } })).choices[0];
    assert(["Oslo", "Paris"].includes(JSON.parse(message.content).city), message.content);
    const wrong = { type: "json_schema", json_schema: { name: "x", schema: { not: {} } } };
    const named = (error) => error instanceof OpenAI.BadRequestError && error.param === "response_format.json_schema.schema";
    await assert.rejects(chat({ response_format: wrong }), named);
  },

  async completions() {
    const fields = { model, prompt: "Once upon", max_tokens: 6, seed: 2, top_k: 8 };
    const whole = await client.completions.create(fields);
    const chunks = await all(await client.completions.create({ ...fields, stream: true }));
    assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), whole.choices[0].text);
  },

  async responses() {
    const fields = { model, input: "Hello", max_output_tokens: 8, seed: 5, logit_bias: words };
    const whole = await client.responses.create(fields);
    assert.equal(whole.status, "incomplete");
    // The client builds the response from the events, and refuses events out of order.
    const stream = client.responses.stream(fields);
    const kinds = (await all(stream)).map((event) => event.type);
    assert.equal(kinds[0], "response.created");
    assert.equal(kinds.at(-1), "response.incomplete");
    assert.equal((await stream.finalResponse()).output_text, whole.output_text);

    const tools = [{ type: "function", strict: false, ...weather }];
    const forced = { model, input: "Weather?", tools, tool_choice: "required", max_output_tokens: 250, logit_bias: calls, top_k: 8 };
    const called = await client.responses.create(forced);
    const [call] = called.output;
    assert.equal(call.name, "get_weather");
    const output = { type: "function_call_output", call_id: call.call_id, output: "rain" };
    const second = await client.responses.create({ ...fields, input: [output], previous_response_id: called.id });
    assert.equal(second.previous_response_id, called.id);
    assert.deepEqual((await client.responses.retrieve(called.id)).output, called.output);
    assert.deepEqual((await all(client.responses.inputItems.list(second.id))).map((item) => item.call_id), [call.call_id]);
    await client.responses.delete(called.id);
    await assert.rejects(client.responses.retrieve(called.id), OpenAI.NotFoundError);
  },

  async errors() {
    await assert.rejects(chat({ model: "other" }), (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
    await assert.rejects(chat({ temperature: 9 }), (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
    const stranger = new OpenAI({ apiKey: "wrong", maxRetries: 0 });
    await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  },

  async aborts() {
    const streams = [
      await chat({ stream: true, max_tokens: 256 }),
      await client.responses.create({ model, input: "Hello", stream: true, max_output_tokens: 256 }),
    ];
    for (const stream of streams) {
      for await (const _ of stream) break;
      stream.controller.abort();
    }
    const end = Date.now() + 60_000;
    for (;;) {
      const { engine } = await (await fetch(client.baseURL.replace(/\/v1\/?$/, "/health"))).json();
      if (engine.active === 0 && engine.queued === 0) return;
      assert(Date.now() < end, `sequences stay behind: ${JSON.stringify(engine)}`);
      await new Promise((wake) => setTimeout(wake, 50));
    }
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check().catch((error) => {
    console.error(name);
    throw error;
  });
}
console.log(`openai ${VERSION} (JavaScript): ${Object.keys(checks).length} groups of checks pass`);
