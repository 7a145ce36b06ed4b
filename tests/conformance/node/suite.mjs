// `node suite.mjs < context.json`: what the Python checks ask, through the npm client; a line of JSON each, then a summary.

import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import OpenAI, { APIError, toFile } from "openai";
import { VERSION } from "openai/version";

const context = JSON.parse(readFileSync(0, "utf8"));
const ROW = '{"messages": [{"role": "user", "content": "größer"}, {"role": "assistant", "content": "als"}]}\n';

function clientOf({ key = context.key, proxied = false, maxRetries = 0 } = {}) {
  return new OpenAI({ apiKey: key, baseURL: proxied ? context.proxy_url : context.url, maxRetries, timeout: 30_000 });
}

const client = clientOf();

async function newFile(text = ROW.repeat(20), purpose = "fine-tune", name = "rows.jsonl") {
  return client.files.create({ file: await toFile(Buffer.from(text), name), purpose });
}

async function newJob(values = {}, options = {}, through = client) {
  const file = await newFile();
  return through.fineTuning.jobs.create({ model: "starter", training_file: file.id, ...values }, options);
}

async function refused(promise, kind, { status, code, param }) {
  const error = await promise.then(
    () => assert.fail("nothing was raised"),
    (raised) => raised,
  );
  assert.ok(error instanceof kind, `${error}`);
  assert.equal(error.status, status);
  if (code !== undefined) assert.equal(error.code, code);
  if (param !== undefined) assert.equal(error.param, param);
  assert.ok(error.type);
  assert.match(error.requestID, /^req_/);
  return error;
}

async function collected(pages) {
  const found = [];
  for await (const each of pages) found.push(each);
  return found;
}

function ask(words, values = {}) {
  return client.chat.completions.create({ model: context.model, messages: [{ role: "user", content: words }], ...values });
}

async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
}

async function madeThrough(how, headers = {}) {
  const mark = randomUUID();
  const broken = { headers: { "x-conformance-break": `${how} ${mark}`, ...headers } };
  await newJob({ metadata: { mark } }, broken, clientOf({ proxied: true, maxRetries: 2 }));
  return (await collected(client.fineTuning.jobs.list({ metadata: { mark } }))).length;
}

const checks = {
  async file_round_trip() {
    const file = await newFile(ROW, "fine-tune", "größe.jsonl");
    assert.equal(file.filename, "größe.jsonl");
    assert.equal(file.bytes, Buffer.byteLength(ROW));
    assert.equal(await (await client.files.content(file.id)).text(), ROW);
    assert.ok((await collected(client.files.list({ purpose: "fine-tune" }))).some((each) => each.id === file.id));
    assert.equal((await client.files.delete(file.id)).deleted, true);
    await refused(client.files.retrieve(file.id), OpenAI.NotFoundError, { status: 404, param: "file_id" });
  },

  async wait_for_processing_does_not_wait() {
    const file = await newFile();
    const began = Date.now();
    assert.equal((await client.files.waitForProcessing(file.id)).status, "processed");
    assert.ok(Date.now() - began < 4000);
  },

  async files_in_both_orders() {
    for (let n = 0; n < 5; n++) await newFile(ROW, "user_data", `${n}.jsonl`);
    const ids = async (order) =>
      (await collected(client.files.list({ purpose: "user_data", order, limit: 2 }))).map((each) => each.id);
    assert.deepEqual(await ids("asc"), (await ids("desc")).reverse());
  },

  async a_file_that_expires() {
    const expires_after = { anchor: "created_at", seconds: 3600 };
    const file = await client.files.create({ file: await toFile(Buffer.from(ROW), "a"), purpose: "user_data", expires_after });
    assert.equal(file.expires_at, file.created_at + 3600);
  },

  async upload_by_hand() {
    const data = Buffer.from(ROW.repeat(50));
    const upload = await client.uploads.create({
      bytes: data.length,
      filename: "parts.jsonl",
      mime_type: "application/jsonl",
      purpose: "fine-tune",
    });
    const part = async (bytes) => (await client.uploads.parts.create(upload.id, { data: await toFile(bytes) })).id;
    const second = await part(data.subarray(1000));
    const first = await part(data.subarray(0, 1000));
    const md5 = createHash("md5").update(data).digest("hex");
    const done = await client.uploads.complete(upload.id, { part_ids: [first, second], md5 });
    assert.equal(done.status, "completed");
    assert.equal(await (await client.files.content(done.file.id)).text(), data.toString());
  },

  async explicit_nulls() {
    const job = await newJob({ suffix: null, seed: null, validation_file: null, metadata: null });
    assert.equal(job.validation_file, null);
  },

  async everything_openai_documents() {
    const method = { type: "supervised", supervised: { hyperparameters: { n_epochs: 2, batch_size: "auto" } } };
    const job = await newJob({ seed: 7, suffix: "all", metadata: { "a b": "c&d" }, method });
    assert.equal(job.seed, 7);
    assert.deepEqual(job.metadata, { "a b": "c&d" });
    assert.equal(job.method.supervised.hyperparameters.n_epochs, 2);
  },

  async our_fields_and_unknown_ones() {
    assert.equal((await newJob({ update: { type: "lora", rank: 4 } })).update.rank, 4);
    const expected = { status: 400, code: "unknown_parameter", param: "learning_rte" };
    await refused(newJob({ learning_rte: 1 }), OpenAI.BadRequestError, expected);
  },

  async metadata_filter() {
    const job = await newJob({ metadata: { "a b": "node&me" } });
    const found = await collected(client.fineTuning.jobs.list({ metadata: { "a b": "node&me" } }));
    assert.deepEqual(found.map((each) => each.id), [job.id]);
  },

  async cancel_has_an_empty_body() {
    const job = await newJob();
    assert.equal((await client.fineTuning.jobs.cancel(job.id)).status, "cancelled");
    const error = await refused(clientOf({ maxRetries: 2 }).fineTuning.jobs.cancel(job.id), OpenAI.BadRequestError, {
      status: 400,
    });
    assert.equal(error.headers.get("x-should-retry"), "false");
  },

  async pause_and_resume() {
    const job = await newJob();
    const paused = await client.fineTuning.jobs.pause(job.id);
    assert.deepEqual([paused.status, paused.state], ["queued", "paused"]);
    assert.notEqual((await client.fineTuning.jobs.resume(job.id)).state, "paused");
  },

  async events_and_checkpoints() {
    const events = await collected(client.fineTuning.jobs.listEvents(context.job, { limit: 2 }));
    assert.deepEqual(events.map((each) => each.message), [5, 4, 3, 2, 1].map((seq) => `event ${seq}`));
    const found = await collected(client.fineTuning.jobs.checkpoints.list(context.job, { limit: 1 }));
    assert.deepEqual(found.map((each) => each.step_number), [20, 10]);
    const name = found[0].fine_tuned_model_checkpoint;
    assert.equal((await client.models.retrieve(name)).id, name);
  },

  async walk_over_jobs_of_the_same_instant() {
    const walking = clientOf({ key: context.pagination_key });
    const ids = (await collected(walking.fineTuning.jobs.list({ limit: 100 }))).map((job) => job.id);
    assert.equal(ids.length, context.pagination_job_count);
    assert.equal(new Set(ids).size, context.pagination_job_count);
  },

  async walk_page_by_page() {
    let page = await clientOf({ key: context.pagination_key }).fineTuning.jobs.list({ limit: 250 });
    const ids = new Set(page.data.map((job) => job.id));
    while (page.hasNextPage()) {
      page = await page.getNextPage();
      page.data.forEach((job) => ids.add(job.id));
    }
    assert.equal(ids.size, context.pagination_job_count);
  },

  async models_with_slashes_and_colons() {
    for (const name of [context.model, context.slashed_model, context.deletable_slashed_model, "starter"]) {
      assert.equal((await client.models.retrieve(name)).id, name);
    }
    assert.equal((await client.models.delete(context.deletable_slashed_model)).deleted, true);
    const expected = { status: 404, code: "model_not_found", param: "model" };
    await refused(client.models.retrieve(context.deletable_slashed_model), OpenAI.NotFoundError, expected);
  },

  async chat() {
    const answer = await ask("hello");
    assert.equal(answer.choices[0].message.content, "You said hello.");
    assert.match(answer._request_id, /^req_/);
    const tools = [{ type: "function", function: { name: "f" } }];
    assert.equal((await ask("hello", { tools })).choices.length, 1);
    assert.equal((await ask("hello", { tools, tool_choice: "required" })).choices.length, 1);
    const held = await ask("{}", { response_format: { type: "json_object" } });
    assert.equal(held.choices[0].message.content, "{}");
    await refused(ask("hello", { functions: [{ name: "f" }] }), OpenAI.BadRequestError, {
      status: 400,
      code: "unsupported_parameter",
      param: "functions",
    });
  },

  async slow_tokens_and_keep_alives() {
    assert.equal(await textOf(await ask("slow start", { stream: true })), "You said slow start");
  },

  async error_in_mid_stream() {
    const stream = await ask("fail", { stream: true });
    await assert.rejects(textOf(stream), (error) => error instanceof APIError && error.type === "server_error");
  },

  async a_stream_left_early() {
    const stream = await ask("endless", { stream: true });
    let seen = 0;
    for await (const _ of stream) if (++seen === 5) break;
    assert.equal(seen, 5);
  },

  async completions_and_embeddings() {
    const text = await client.completions.create({ model: "starter", prompt: "Once" });
    assert.equal(text.choices[0].text, "and so on");
    // Asks for base64 by itself and decodes it.
    const packed = await client.embeddings.create({ model: "encoder", input: ["a", "b"] });
    assert.ok(Math.abs(packed.data[0].embedding[0] - 1 / 3) < 1e-6);
    assert.equal(packed.data[1].embedding[1], -1.5);
  },

  async batches() {
    const body = { model: context.model, messages: [{ role: "user", content: "hello" }] };
    const line = JSON.stringify({ custom_id: "1", method: "POST", url: "/v1/chat/completions", body });
    const file = await newFile(line, "batch", "batch.jsonl");
    const batch = await client.batches.create({
      input_file_id: file.id,
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    });
    assert.equal((await client.batches.retrieve(batch.id)).object, "batch");
    assert.match((await client.batches.cancel(batch.id)).status, /^cancel/);
  },

  async webhooks_unwrap() {
    const { body, headers, secret } = context.webhook;
    const event = await client.webhooks.unwrap(body, headers, secret);
    assert.deepEqual([event.type, event.data.id], ["fine_tuning.job.succeeded", context.job]);
    await assert.rejects(client.webhooks.unwrap(body + " ", headers, secret));
  },

  async errors() {
    const model = { status: 404, code: "model_not_found", param: "model" };
    await refused(client.models.retrieve("no/such:model"), OpenAI.NotFoundError, model);
    const limit = { status: 400, code: "invalid_value", param: "limit" };
    await refused(client.fineTuning.jobs.list({ limit: 5000 }), OpenAI.BadRequestError, limit);
    const key = { status: 401, code: "invalid_api_key", param: null };
    await refused(clientOf({ key: "sk-luthier-wrong" }).models.list(), OpenAI.AuthenticationError, key);
    await refused(client.models.delete("starter"), OpenAI.PermissionDeniedError, { status: 403, param: "model" });
    await refused(client.put("/files"), APIError, { status: 405, code: "method_not_allowed" });
    await refused(client.get("/nothing"), OpenAI.NotFoundError, { status: 404, code: "unknown_url" });
    await refused(ask("busy"), OpenAI.InternalServerError, { status: 503, code: "engine_overloaded" });
  },

  async raw_response() {
    const { data, response } = await client.models.list().withResponse();
    assert.match(response.headers.get("x-request-id"), /^req_/);
    assert.equal(response.headers.get("openai-version"), "2020-10-01");
    assert.ok(data.data.some((model) => model.id === "starter"));
  },

  async a_lost_answer_makes_one_job() {
    assert.equal(await madeThrough("lost"), 1);
  },

  async a_500_after_the_work_makes_one_job() {
    assert.equal(await madeThrough("error"), 1);
  },

  async an_idempotency_key_makes_one_job() {
    assert.equal(await madeThrough("lost", { "Idempotency-Key": randomUUID() }), 1);
  },

  async many_at_once() {
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask("hello")));
    assert.ok(answers.every((answer) => answer.choices[0].message.content === "You said hello."));
  },
};

const counts = { passed: 0, failed: 0, absent: 0 };
for (const [name, check] of Object.entries(checks)) {
  let line;
  try {
    await check();
    line = { check: name, outcome: "passed" };
  } catch (error) {
    line = { check: name, outcome: "failed", detail: `${error?.stack ?? error}`.slice(0, 600) };
  }
  counts[line.outcome] += 1;
  console.log(JSON.stringify(line));
}
console.log(JSON.stringify({ client: `openai ${VERSION} (npm)`, on: `Node ${process.version}`, ...counts }));
process.exit(counts.failed ? 1 : 0);
