// @discordjs/rest through weir: `new REST({ api })`, with the rate limiter it ships.
//
// Run as `WEIR_URL=http://127.0.0.1:PORT BOT_TOKEN=... node discordjs.mjs`. Prints one line a step and a
// JSON summary at the end, and exits 1 at the first step that did not do what it says.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { DiscordAPIError, REST } from '@discordjs/rest';
import { InteractionResponseType, Routes } from 'discord-api-types/v10';

const { WEIR_URL, BOT_TOKEN } = process.env;
assert.ok(WEIR_URL && BOT_TOKEN, 'WEIR_URL and BOT_TOKEN must be set');

// Each purpose has a channel of its own, so that no step drains the bucket of another.
const CHANNEL = '300000000000000001';
const BURST_CHANNEL = '300000000000000002';
const OWN_BURST_CHANNEL = '300000000000000003';
const INTERACTION = '300000000000000011';
const INTERACTION_TOKEN = 'aW50ZXJhY3Rpb246-of-the-real-clients';
const WEBHOOK = '300000000000000012';
const WEBHOOK_TOKEN = `token-of-a-webhook_${'w'.repeat(49)}`;
const USER = '300000000000000020';
const UNKNOWN_MESSAGE = '300000000000000404';

// Four times what the bucket holds.
const BURST = 20;
// Between the sends of a burst: long enough that requests arrive in the order in which they were sent,
// although each has a connection of its own, and short enough that all twenty fall into one window.
const STAGGER_MS = 50;
// A 5-per-5-s bucket lets 20 requests through in no less than 15 s, the first five being free. A sliding
// one frees a slot each second: the same. Less means that nothing was limited, and the test shows nothing.
const BURST_MS_MIN = 13_000;

const FILE = Buffer.alloc(256 * 1024, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));

const complaints = [];
const steps = [];

function client() {
	const rest = new REST({
		api: `${WEIR_URL}/api`,
		version: '10',
		// The default of 15 s is what the last message of the burst waits in the queue.
		timeout: 60_000,
	}).setToken(BOT_TOKEN);
	// The library retries a 429 on its own and then succeeds: only its events tell that one came.
	rest.on('response', (request, response) => {
		if (response.status === 429 || response.status >= 500) {
			complaints.push(`${request.method} ${request.path} was answered ${response.status}`);
		}
	});
	return rest;
}

async function step(name, body) {
	const start = performance.now();
	const result = await body();
	const ms = Math.round(performance.now() - start);
	steps.push({ step: name, ms });
	console.log(`ok @discordjs/rest: ${name} (${ms} ms)`);
	return result;
}

async function burst(fleet) {
	const start = performance.now();
	const sends = [];
	for (const [seq, rest] of fleet.entries()) {
		sends.push(rest.post(Routes.channelMessages(BURST_CHANNEL), { body: { content: `client:burst seq:${seq}` } }));
		await sleep(STAGGER_MS);
	}
	const ids = (await Promise.all(sends)).map((message) => BigInt(message.id));
	const took = performance.now() - start;
	assert.equal(ids.length, BURST);
	// Discord hands out ids in the order of arrival.
	for (let i = 1; i < BURST; i++) {
		assert.ok(ids[i] > ids[i - 1], `message ${i} arrived before message ${i - 1}`);
	}
	assert.ok(took >= BURST_MS_MIN, `${BURST} messages took ${took} ms: nothing limited them`);
}

async function ownBurst(rest) {
	const sent = await Promise.all(
		Array.from({ length: 12 }, (_, i) =>
			rest.post(Routes.channelMessages(OWN_BURST_CHANNEL), { body: { content: `burst of one client ${i}` } }),
		),
	);
	assert.equal(new Set(sent.map((message) => message.id)).size, 12);
}

async function main() {
	const rest = client();

	await step('fetches its own user', async () => {
		assert.match((await rest.get(Routes.user())).id, /^\d+$/);
	});

	const message = await step('sends a message', async () => {
		const sent = await rest.post(Routes.channelMessages(CHANNEL), { body: { content: 'of discord.js' } });
		assert.equal(sent.content, 'of discord.js');
		assert.equal(sent.channel_id, CHANNEL);
		return sent;
	});

	await step('sends a message with files', async () => {
		const sent = await rest.post(Routes.channelMessages(CHANNEL), {
			body: { content: 'with files' },
			files: [
				{ name: 'bytes.bin', data: FILE },
				{ name: 'short.txt', data: 'short' },
			],
		});
		assert.ok(BigInt(sent.id) > BigInt(message.id));
		assert.deepEqual(
			sent.attachments.map(({ filename, size }) => [filename, size]),
			[
				['bytes.bin', FILE.length],
				['short.txt', 5],
			],
		);
	});

	await step('puts, lists and deletes reactions', async () => {
		const thumb = encodeURIComponent('👍');
		await rest.put(Routes.channelMessageOwnReaction(CHANNEL, message.id, thumb));
		await rest.put(Routes.channelMessageOwnReaction(CHANNEL, message.id, 'weir%3A300000000000000099'));
		assert.ok(Array.isArray(await rest.get(Routes.channelMessageReaction(CHANNEL, message.id, thumb))));
		await rest.delete(Routes.channelMessageOwnReaction(CHANNEL, message.id, thumb));
		await rest.delete(Routes.channelMessageAllReactions(CHANNEL, message.id));
	});

	await step('reads a channel, a message, its history and a user', async () => {
		assert.equal((await rest.get(Routes.channel(CHANNEL))).id, CHANNEL);
		assert.equal((await rest.get(Routes.channelMessage(CHANNEL, message.id))).id, message.id);
		const history = await rest.get(Routes.channelMessages(CHANNEL), { query: new URLSearchParams({ limit: '2' }) });
		for (const one of history) assert.equal(one.channel_id, CHANNEL);
		assert.equal((await rest.get(Routes.user(USER))).id, USER);
	});

	await step('is told of what is not there', async () => {
		await assert.rejects(rest.get(Routes.channelMessage(CHANNEL, UNKNOWN_MESSAGE)), (error) => {
			assert.ok(error instanceof DiscordAPIError, String(error));
			assert.equal(error.status, 404);
			assert.equal(error.code, 10008);
			return true;
		});
	});

	await step('executes a webhook', async () => {
		const query = new URLSearchParams({ wait: 'true' });
		const said = await rest.post(Routes.webhook(WEBHOOK, WEBHOOK_TOKEN), {
			auth: false,
			body: { content: 'by webhook' },
			query,
		});
		assert.equal(said.content, 'by webhook');
	});

	await step('answers an interaction', async () => {
		await rest.post(Routes.interactionCallback(INTERACTION, INTERACTION_TOKEN), {
			auth: false,
			body: { type: InteractionResponseType.ChannelMessageWithSource, data: { content: 'pong' } },
		});
	});

	await step('edits and deletes a message', async () => {
		const edited = await rest.patch(Routes.channelMessage(CHANNEL, message.id), { body: { content: 'edited' } });
		assert.equal(edited.content, 'edited');
		await rest.delete(Routes.channelMessage(CHANNEL, message.id));
	});

	// Twenty clients of one bot, as if each were a process: none knows what the others have used up.
	const fleet = Array.from({ length: BURST }, client);
	await step(`${BURST} clients of one bot send at once to one channel, and one bursts in another`, () =>
		Promise.all([burst(fleet), ownBurst(rest)]),
	);

	assert.deepEqual(complaints, []);
	for (const one of [rest, ...fleet]) {
		one.clearHashSweeper();
		one.clearHandlerSweeper();
	}
}

try {
	await main();
	console.log(JSON.stringify({ client: '@discordjs/rest', ok: true, steps }));
} catch (error) {
	console.error(error);
	console.log(JSON.stringify({ client: '@discordjs/rest', ok: false, error: String(error), steps }));
	process.exitCode = 1;
}
