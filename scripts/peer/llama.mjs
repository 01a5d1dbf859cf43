// llama.cpp's side of scripts/compare-llama: rates of a GGUF model on llama.cpp's Vulkan backend, as one line of JSON.
//
//   node scripts/peer/llama.mjs FOLDER FILE.gguf PROMPT_TOKENS DECODE_TOKENS [REPEAT]
//
// FOLDER is where `npm install node-llama-cpp@3.22.1` ran.  The prompt is evaluated as one batch and the tokens after it
// are greedy; the first run of the process compiles the shaders and is not counted.

import {createRequire} from "node:module";
import path from "node:path";
import {pathToFileURL} from "node:url";

const [folder, file, ...numbers] = process.argv.slice(2);
const [promptTokens, decodeTokens, repeat = 1] = numbers.map(Number);
if (!folder || !file || !(promptTokens > 0) || !(decodeTokens > 0) || !(repeat > 0)) {
    console.error("usage: llama.mjs FOLDER FILE.gguf PROMPT_TOKENS DECODE_TOKENS [REPEAT]");
    process.exit(2);
}
// ggml passes over adapters of type CPU, such as lavapipe, unless they are named; an adapter already chosen stays.
process.env.GGML_VK_VISIBLE_DEVICES ??= "0";

const entry = createRequire(path.resolve(folder, "package.json")).resolve("node-llama-cpp");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(entry));
const log = [];
const llama = await getLlama({
    gpu: "vulkan",
    build: "never",
    skipDownload: true,
    logLevel: LlamaLogLevel.debug,
    logger: (_, message) => log.push(message),
});
const start = performance.now();
const model = await llama.loadModel({modelPath: path.resolve(file), gpuLayers: "max"});
const loadSeconds = (performance.now() - start) / 1000;
const vocabulary = model.fileInfo.metadata[model.fileInfo.metadata.general.architecture].vocab_size;
const prompt = Array.from({length: promptTokens}, (_, i) => (7919 * i + 13) % vocabulary);
const context = await model.createContext({contextSize: promptTokens + decodeTokens, batchSize: promptTokens});

async function run() {
    const sequence = context.getSequence();
    const tokens = [];
    const start = performance.now();
    let first = start;
    for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
        // The first token comes with the prompt; each one after it costs one pass.
        if (tokens.length === 0) first = performance.now();
        tokens.push(token);
        if (tokens.length > decodeTokens) break;
    }
    const end = performance.now();
    sequence.dispose();
    return {
        prompt_tokens_per_second: (promptTokens * 1000) / (first - start),
        decode_tokens_per_second: (decodeTokens * 1000) / (end - first),
        tokens,
    };
}

const warmUp = await run();
const runs = [];
for (let i = 0; i < repeat; i++) runs.push(await run());
console.log(JSON.stringify({
    backend: llama.gpu,
    devices: await llama.getGpuDeviceNames(),
    llama_cpp: llama.llamaCppRelease.release,
    gpu_layers: model.gpuLayers,
    threads: context.currentThreads,
    flash_attention: context.flashAttention,
    load_seconds: loadSeconds,
    warm_up: warmUp,
    runs,
}));
if (process.env.LLAMA_LOG) console.error(log.join(""));
process.exit(0);
