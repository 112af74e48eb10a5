// undici's ProxyAgent through the forward proxy, to a TLS server and a plain one.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { ProxyAgent, request } from 'undici';

const { PROXY_HOST, PROXY_AUTH, SECURE_URL, PLAIN_URL, TOKEN, CA_FILE } = process.env;
const headers = { authorization: TOKEN, 'user-agent': 'DiscordBot (test, 1)' };
const ca = readFileSync(CA_FILE);

const dispatcher = new ProxyAgent({
	uri: `http://${PROXY_HOST}`,
	token: `Basic ${Buffer.from(PROXY_AUTH).toString('base64')}`,
	requestTls: { ca },
});
for (const base of [SECURE_URL, PLAIN_URL]) {
	const path = '/api/v10/users/@me';
	const all = await Promise.all(
		Array.from({ length: 5 }, () => request(base + path, { dispatcher, headers })),
	);
	for (const { statusCode, body } of all) {
		assert.equal(statusCode, 200);
		assert.ok((await body.json()).id);
	}
	const large = { method: 'POST', dispatcher, headers, body: 'x'.repeat(300_000) };
	const { statusCode, body } = await request(base + '/nothing/here', large);
	assert.equal(statusCode, 404);
	await body.dump();
}
await dispatcher.close();

const stranger = new ProxyAgent({ uri: `http://${PROXY_HOST}`, requestTls: { ca } });
await assert.rejects(request(SECURE_URL, { dispatcher: stranger, headers }), /407/);
await stranger.close();
console.log('ok');
