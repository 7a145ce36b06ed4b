// `node suite.mjs < context.json`: run the Python checks with the npm client. Prints a line of JSON each, then a summary.

import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import OpenAI, { APIError, toFile } from "openai";
import { VERSION } from "openai/version";

const context = JSON.parse(readFileSync(0, "utf8"));
const ROW = '{"messages": [{"role": "user", "content": "größer"}, {"role": "assistant", "content": "als"}]}\n';

function createClient({ key = context.key, proxied = false, maxRetries = 0 } = {}) {
  return new OpenAI({ apiKey: key, baseURL: proxied ? context.proxy_url : context.url, maxRetries, timeout: 30_000 });
}

const client = createClient();

async function createFile(text = ROW.repeat(20), purpose = "fine-tune", name = "rows.jsonl") {
  return client.files.create({ file: await toFile(Buffer.from(text), name), purpose });
}

async function createJob(values = {}, options = {}, jobClient = client) {
  const file = await createFile();
  return jobClient.fineTuning.jobs.create({ model: "starter", training_file: file.id, ...values }, options);
}

async function assertRejected(promise, kind, { status, code, param }) {
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

async function collect(pages) {
  const items = [];
  for await (const item of pages) items.push(item);
  return items;
}

function createChatCompletion(content, values = {}) {
  return client.chat.completions.create({ model: context.model, messages: [{ role: "user", content }], ...values });
}

async function joinText(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
}

async function createJobThroughProxy(failure, headers = {}) {
  const mark = randomUUID();
  const options = { headers: { "x-conformance-break": `${failure} ${mark}`, ...headers } };
  await createJob({ metadata: { mark } }, options, createClient({ proxied: true, maxRetries: 2 }));
  return (await collect(client.fineTuning.jobs.list({ metadata: { mark } }))).length;
}

const checks = {
  async file_round_trip() {
    const file = await createFile(ROW, "fine-tune", "größe.jsonl");
    assert.equal(file.filename, "größe.jsonl");
    assert.equal(file.bytes, Buffer.byteLength(ROW));
    assert.equal(await (await client.files.content(file.id)).text(), ROW);
    assert.ok((await collect(client.files.list({ purpose: "fine-tune" }))).some((listed) => listed.id === file.id));
    assert.equal((await client.files.delete(file.id)).deleted, true);
    await assertRejected(client.files.retrieve(file.id), OpenAI.NotFoundError, { status: 404, param: "file_id" });
  },

  async wait_for_processing_does_not_wait() {
    const file = await createFile();
    const start = Date.now();
    assert.equal((await client.files.waitForProcessing(file.id)).status, "processed");
    assert.ok(Date.now() - start < 4000);
  },

  async files_in_both_orders() {
    for (let n = 0; n < 5; n++) await createFile(ROW, "user_data", `${n}.jsonl`);
    const ids = async (order) =>
      (await collect(client.files.list({ purpose: "user_data", order, limit: 2 }))).map((file) => file.id);
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
    const job = await createJob({ suffix: null, seed: null, validation_file: null, metadata: null });
    assert.equal(job.validation_file, null);
  },

  async everything_openai_documents() {
    const method = { type: "supervised", supervised: { hyperparameters: { n_epochs: 2, batch_size: "auto" } } };
    const job = await createJob({ seed: 7, suffix: "all", metadata: { "a b": "c&d" }, method });
    assert.equal(job.seed, 7);
    assert.deepEqual(job.metadata, { "a b": "c&d" });
    assert.equal(job.method.supervised.hyperparameters.n_epochs, 2);
  },

  async our_fields_and_unknown_ones() {
    assert.equal((await createJob({ update: { type: "lora", rank: 4 } })).update.rank, 4);
    const expected = { status: 400, code: "unknown_parameter", param: "learning_rte" };
    await assertRejected(createJob({ learning_rte: 1 }), OpenAI.BadRequestError, expected);
  },

  async metadata_filter() {
    const job = await createJob({ metadata: { "a b": "node&me" } });
    const jobs = await collect(client.fineTuning.jobs.list({ metadata: { "a b": "node&me" } }));
    assert.deepEqual(jobs.map((listed) => listed.id), [job.id]);
  },

  async cancel_has_an_empty_body() {
    const job = await createJob();
    assert.equal((await client.fineTuning.jobs.cancel(job.id)).status, "cancelled");
    const cancelled = createClient({ maxRetries: 2 }).fineTuning.jobs.cancel(job.id);
    const error = await assertRejected(cancelled, OpenAI.BadRequestError, { status: 400 });
    assert.equal(error.headers.get("x-should-retry"), "false");
  },

  async pause_and_resume() {
    const job = await createJob();
    const paused = await client.fineTuning.jobs.pause(job.id);
    assert.deepEqual([paused.status, paused.state], ["queued", "paused"]);
    assert.notEqual((await client.fineTuning.jobs.resume(job.id)).state, "paused");
  },

  async events_and_checkpoints() {
    const events = await collect(client.fineTuning.jobs.listEvents(context.job, { limit: 2 }));
    assert.deepEqual(events.map((event) => event.message), [5, 4, 3, 2, 1].map((seq) => `event ${seq}`));
    const checkpoints = await collect(client.fineTuning.jobs.checkpoints.list(context.job, { limit: 1 }));
    assert.deepEqual(checkpoints.map((checkpoint) => checkpoint.step_number), [20, 10]);
    const name = checkpoints[0].fine_tuned_model_checkpoint;
    assert.equal((await client.models.retrieve(name)).id, name);
  },

  async walk_over_jobs_of_the_same_instant() {
    const paginationClient = createClient({ key: context.pagination_key });
    const ids = (await collect(paginationClient.fineTuning.jobs.list({ limit: 100 }))).map((job) => job.id);
    assert.equal(ids.length, context.pagination_job_count);
    assert.equal(new Set(ids).size, context.pagination_job_count);
  },

  async walk_page_by_page() {
    let page = await createClient({ key: context.pagination_key }).fineTuning.jobs.list({ limit: 250 });
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
    await assertRejected(client.models.retrieve(context.deletable_slashed_model), OpenAI.NotFoundError, expected);
  },

  async chat() {
    const completion = await createChatCompletion("hello");
    assert.equal(completion.choices[0].message.content, "You said hello.");
    assert.match(completion._request_id, /^req_/);
    const tools = [{ type: "function", function: { name: "f" } }];
    assert.equal((await createChatCompletion("hello", { tools })).choices.length, 1);
    assert.equal((await createChatCompletion("hello", { tools, tool_choice: "required" })).choices.length, 1);
    const constrained = await createChatCompletion("{}", { response_format: { type: "json_object" } });
    assert.equal(constrained.choices[0].message.content, "{}");
    await assertRejected(createChatCompletion("hello", { functions: [{ name: "f" }] }), OpenAI.BadRequestError, {
      status: 400,
      code: "unsupported_parameter",
      param: "functions",
    });
  },

  async slow_tokens_and_keep_alives() {
    assert.equal(await joinText(await createChatCompletion("slow start", { stream: true })), "You said slow start");
  },

  async error_in_mid_stream() {
    const stream = await createChatCompletion("fail", { stream: true });
    await assert.rejects(joinText(stream), (error) => error instanceof APIError && error.type === "server_error");
  },

  async a_stream_left_early() {
    const stream = await createChatCompletion("endless", { stream: true });
    let seen = 0;
    for await (const _ of stream) if (++seen === 5) break;
    assert.equal(seen, 5);
  },

  async completions_and_embeddings() {
    const text = await client.completions.create({ model: "starter", prompt: "Once" });
    assert.equal(text.choices[0].text, "and so on");
    // The client requests base64 by default and decodes it.
    const embeddings = await client.embeddings.create({ model: "encoder", input: ["a", "b"] });
    assert.ok(Math.abs(embeddings.data[0].embedding[0] - 1 / 3) < 1e-6);
    assert.equal(embeddings.data[1].embedding[1], -1.5);
  },

  async batches() {
    const body = { model: context.model, messages: [{ role: "user", content: "hello" }] };
    const line = JSON.stringify({ custom_id: "1", method: "POST", url: "/v1/chat/completions", body });
    const file = await createFile(line, "batch", "batch.jsonl");
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
    await assertRejected(client.models.retrieve("no/such:model"), OpenAI.NotFoundError, model);
    const limit = { status: 400, code: "invalid_value", param: "limit" };
    await assertRejected(client.fineTuning.jobs.list({ limit: 5000 }), OpenAI.BadRequestError, limit);
    const key = { status: 401, code: "invalid_api_key", param: null };
    await assertRejected(createClient({ key: "sk-luthier-wrong" }).models.list(), OpenAI.AuthenticationError, key);
    await assertRejected(client.models.delete("starter"), OpenAI.PermissionDeniedError, { status: 403, param: "model" });
    await assertRejected(client.put("/files"), APIError, { status: 405, code: "method_not_allowed" });
    await assertRejected(client.get("/nothing"), OpenAI.NotFoundError, { status: 404, code: "unknown_url" });
    const busy = { status: 503, code: "engine_overloaded" };
    await assertRejected(createChatCompletion("busy"), OpenAI.InternalServerError, busy);
  },

  async raw_response() {
    const { data, response } = await client.models.list().withResponse();
    assert.match(response.headers.get("x-request-id"), /^req_/);
    assert.equal(response.headers.get("openai-version"), "2020-10-01");
    assert.ok(data.data.some((model) => model.id === "starter"));
  },

  async a_lost_answer_makes_one_job() {
    assert.equal(await createJobThroughProxy("lost"), 1);
  },

  async a_500_after_the_work_makes_one_job() {
    assert.equal(await createJobThroughProxy("error"), 1);
  },

  async an_idempotency_key_makes_one_job() {
    assert.equal(await createJobThroughProxy("lost", { "Idempotency-Key": randomUUID() }), 1);
  },

  async many_at_once() {
    const completions = await Promise.all(Array.from({ length: 20 }, () => createChatCompletion("hello")));
    assert.ok(completions.every((completion) => completion.choices[0].message.content === "You said hello."));
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
