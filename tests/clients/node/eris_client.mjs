// Eris through weir: it speaks https alone, `rest: { domain, agent }`, with the rate limiter it ships.
//
// Run as `WEIR_URL=https://localhost:PORT NODE_EXTRA_CA_CERTS=... BOT_TOKEN=... node eris_client.mjs`. Prints one
// line a step and a JSON summary at the end, and exits 1 at the first step that did not do what it says.

import assert from 'node:assert/strict';
import { Agent } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, DiscordRESTError } from 'eris';

const { WEIR_URL, BOT_TOKEN } = process.env;
assert.ok(WEIR_URL && BOT_TOKEN, 'WEIR_URL and BOT_TOKEN must be set');

// Each purpose has a channel of its own, so that no step drains the bucket of another.
const CHANNEL = '300000000000000001';
const BURST_CHANNEL = '300000000000000002';
const INTERACTION = '300000000000000011';
const INTERACTION_TOKEN = 'aW50ZXJhY3Rpb246-of-the-real-clients';
const WEBHOOK = '300000000000000012';
const WEBHOOK_TOKEN = `token-of-a-webhook_${'w'.repeat(49)}`;
const USER = '300000000000000020';
const UNKNOWN_MESSAGE = '300000000000000404';

const BURST = 20;
// Between the sends of the burst: long enough that requests arrive in the order in which they were sent,
// although each has a connection of its own.
const STAGGER_MS = 50;
// A 5-per-5-s bucket lets 20 requests through in no less than 15 s. Less means that nothing was limited.
const BURST_MS_MIN = 13_000;

const FILE = Buffer.alloc(256 * 1024, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));

const complaints = [];
const steps = [];
const agents = [];

function client() {
	const url = new URL(WEIR_URL);
	const agent = new Agent({ keepAlive: true, family: 4 });
	// Eris names no port, so that the agent's own is taken.
	agent.defaultPort = Number(url.port);
	agents.push(agent);
	const eris = new Client(`Bot ${BOT_TOKEN}`, {
		restMode: true,
		// The default of 15 s is what the last message of the burst waits in the queue.
		rest: { domain: url.hostname, agent, requestTimeout: 60_000 },
	});
	// The library retries a 429 on its own and then succeeds: only its events tell that one came.
	eris.on('rawREST', ({ method, url: path, resp }) => {
		if (resp.statusCode === 429 || resp.statusCode >= 500) {
			complaints.push(`${method} ${path} was answered ${resp.statusCode}`);
		}
	});
	eris.on('error', (error) => complaints.push(String(error)));
	return eris;
}

async function step(name, body) {
	const start = performance.now();
	const result = await body();
	const ms = Math.round(performance.now() - start);
	steps.push({ step: name, ms });
	console.log(`ok eris: ${name} (${ms} ms)`);
	return result;
}

async function burst(fleet) {
	const start = performance.now();
	const sends = [];
	for (const [seq, eris] of fleet.entries()) {
		sends.push(eris.createMessage(BURST_CHANNEL, { content: `client:burst seq:${seq}` }));
		await sleep(STAGGER_MS);
	}
	const ids = (await Promise.all(sends)).map((message) => BigInt(message.id));
	const took = performance.now() - start;
	// Discord hands out ids in the order of arrival.
	for (let i = 1; i < BURST; i++) {
		assert.ok(ids[i] > ids[i - 1], `message ${i} arrived before message ${i - 1}`);
	}
	assert.ok(took >= BURST_MS_MIN, `${BURST} messages took ${took} ms: nothing limited them`);
}

async function main() {
	const eris = client();

	await step('reads its own user', async () => {
		assert.match((await eris.getSelf()).id, /^\d+$/);
	});

	const message = await step('sends a message', async () => {
		const sent = await eris.createMessage(CHANNEL, { content: 'of Eris' });
		assert.equal(sent.content, 'of Eris');
		return sent;
	});

	await step('sends a message with a file', async () => {
		const sent = await eris.createMessage(CHANNEL, { content: 'with a file' }, { name: 'bytes.bin', file: FILE });
		assert.ok(BigInt(sent.id) > BigInt(message.id));
		const [{ filename, size }] = [...sent.attachments.values()];
		assert.deepEqual([filename, size], ['bytes.bin', FILE.length]);
	});

	await step('puts, lists and deletes reactions', async () => {
		await eris.addMessageReaction(CHANNEL, message.id, '👍');
		assert.ok(Array.isArray(await eris.getMessageReaction(CHANNEL, message.id, '👍')));
		await eris.removeMessageReaction(CHANNEL, message.id, '👍');
	});

	await step('reads a message, its history and a user', async () => {
		assert.equal((await eris.getMessage(CHANNEL, message.id)).id, message.id);
		assert.ok(Array.isArray(await eris.getMessages(CHANNEL, { limit: 2 })));
		assert.equal((await eris.getRESTUser(USER)).id, USER);
	});

	await step('is told of what is not there', async () => {
		await assert.rejects(eris.getMessage(CHANNEL, UNKNOWN_MESSAGE), (error) => {
			assert.ok(error instanceof DiscordRESTError, String(error));
			assert.equal(error.code, 10008);
			return true;
		});
	});

	await step('executes a webhook', async () => {
		const said = await eris.executeWebhook(WEBHOOK, WEBHOOK_TOKEN, { content: 'by webhook', wait: true });
		assert.equal(said.content, 'by webhook');
	});

	await step('answers an interaction', async () => {
		await eris.createInteractionResponse(INTERACTION, INTERACTION_TOKEN, { type: 4, data: { content: 'pong' } });
	});

	await step('edits and deletes a message', async () => {
		const edited = await eris.editMessage(CHANNEL, message.id, { content: 'edited' });
		assert.equal(edited.content, 'edited');
		await eris.deleteMessage(CHANNEL, message.id);
	});

	// Twenty clients of one bot, as if each were a process: none knows what the others have used up.
	const fleet = Array.from({ length: BURST }, client);
	await step(`${BURST} clients of one bot send at once to one channel`, () => burst(fleet));

	assert.deepEqual(complaints, []);
}

try {
	await main();
	console.log(JSON.stringify({ client: 'eris', ok: true, steps }));
} catch (error) {
	console.error(error);
	console.log(JSON.stringify({ client: 'eris', ok: false, error: String(error), steps }));
	process.exitCode = 1;
}
for (const agent of agents) agent.destroy();
