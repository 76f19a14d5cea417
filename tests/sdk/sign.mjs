// Signs one event of each provider with the provider's own SDK, as of one moment:
//
//   node sign.mjs SECONDS [ORIGIN [ATTEMPT]]
//
// To be run from a folder in which the SDKs are installed. Prints a JSON list of deliveries;
// `tampered` is the same body after somebody has changed what is signed. A later attempt is the same event,
// signed at that moment, with what its provider changes in it.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const [seconds, origin = 'https://hooks.example.com', attempt = '1'] = process.argv.slice(2);
const now = Number(seconds);
const ms = now * 1000;
// Some SDKs read the clock themselves.
globalThis.Date = class extends Date {
  constructor(...time) {
    super(...(time.length ? time : [ms]));
  }
  static now() {
    return ms;
  }
};

const version = name => {
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url);
  return `${name} ${JSON.parse(readFileSync(file)).version} (npm)`;
};

const SECRET = 'a secret that is only good for this test';
const WHSEC = 'whsec_' + Buffer.from(SECRET).toString('base64');
const deliveries = [];

// A body holds the word `genuine`, which somebody on the way makes `altered`.
const altered = body => body.replace('genuine', 'altered');

async function by(name, provider, call, sign) {
  const url = `${origin}/hooks/${provider}`;
  const made = { provider, sdk: `${version(name)}: ${call}`, secret: SECRET, method: 'POST', headers: {}, ...(await sign(url)) };
  deliveries.push({ tampered: altered(made.body), ...made });
}

const event = more => JSON.stringify({ ...more, note: 'genuine, größer' });
const form = fields => new URLSearchParams(fields).toString();
const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' };

const { default: Stripe } = await import('stripe');
await by('stripe', 'stripe', 'webhooks.generateTestHeaderString', () => {
  const body = event({ id: 'evt_1', type: 'charge.succeeded' });
  const signature = new Stripe('sk_test_none').webhooks.generateTestHeaderString({ payload: body, secret: SECRET, timestamp: now });
  return { body, headers: { 'Stripe-Signature': signature } };
});

const { Webhook } = await import('standardwebhooks');
await by('standardwebhooks', 'standard-webhooks', 'Webhook.sign', () => {
  const body = event({ type: 'user.created' });
  const signature = new Webhook(WHSEC).sign('msg_1', new Date(ms), body);
  return { secret: WHSEC, body, headers: { 'webhook-id': 'msg_1', 'webhook-timestamp': `${now}`, 'webhook-signature': signature } };
});

const svix = await import('svix');
await by('svix', 'svix', 'Webhook.sign', () => {
  const body = event({ type: 'user.created' });
  const signature = new svix.Webhook(WHSEC).sign('msg_1', new Date(ms), body);
  return { secret: WHSEC, body, headers: { 'svix-id': 'msg_1', 'svix-timestamp': `${now}`, 'svix-signature': signature } };
});

const octokit = await import('@octokit/webhooks-methods');
await by('@octokit/webhooks-methods', 'github', 'sign', async () => {
  const body = event({ action: 'opened' });
  const headers = { 'X-Hub-Signature-256': await octokit.sign(SECRET, body), 'X-GitHub-Delivery': 'a1', 'X-GitHub-Event': 'issues' };
  return { body, headers };
});

const { default: twilio } = await import('twilio');
await by('twilio', 'twilio', 'getExpectedTwilioSignature', url => {
  const fields = { CallSid: 'CA1', From: '+14158675309', Note: 'genuine & größer' };
  return { url, body: form(fields), headers: { ...FORM, 'X-Twilio-Signature': twilio.getExpectedTwilioSignature(SECRET, url, fields) } };
});
await by('twilio', 'twilio', 'getExpectedBodyHash', url => {
  const body = event({ id: 'JSON' });
  const query = `bodySHA256=${twilio.getExpectedBodyHash(body)}`;
  const headers = { 'Content-Type': 'application/json', 'X-Twilio-Signature': twilio.getExpectedTwilioSignature(SECRET, `${url}?${query}`, {}) };
  return { url, query, body, headers };
});

const { WorkOS } = await import('@workos-inc/node');
await by('@workos-inc/node', 'workos', 'webhooks.computeSignature', async () => {
  const payload = { id: 'event_1', event: 'user.created', note: 'genuine' };
  const signature = await new WorkOS('sk_none').webhooks.computeSignature(ms, payload, SECRET);
  return { body: JSON.stringify(payload), headers: { 'WorkOS-Signature': `t=${ms}, v1=${signature}` } };
});

const contentful = await import('@contentful/node-apps-toolkit');
await by('@contentful/node-apps-toolkit', 'contentful', 'signRequest', url => {
  const secret = SECRET.padEnd(64, '.').slice(0, 64);
  const body = event({});
  const topic = 'ContentManagement.Entry.publish';
  const request = { method: 'POST', path: `${new URL(url).pathname}?a=b%20c`, headers: { 'X-Contentful-Topic': topic }, body };
  const headers = { 'X-Contentful-Topic': topic, ...contentful.signRequest(secret, request, ms) };
  return { secret, query: 'a=b%20c', body, headers };
});

const hygraph = await import('@hygraph/utils');
await by('@hygraph/utils', 'hygraph', 'generateWebhookSignature', () => {
  const body = event({ operation: 'publish', quote: '"\\\n\u2028' });
  const signature = hygraph.default.generateWebhookSignature({ rawPayload: body, secret: SECRET, environmentName: 'master' });
  return { body, headers: { 'gcms-signature': signature } };
});

const notion = await import('@notionhq/client');
await by('@notionhq/client', 'notion', 'signWebhookPayload', async () => {
  const body = event({ id: '367cba44-b6f3-4c92-81e7-6a2e9659efd4', type: 'page.created', attempt_number: Number(attempt) });
  return { body, headers: { 'X-Notion-Signature': await notion.signWebhookPayload({ body, verificationToken: SECRET }) } };
});

const retell = await import('retell-sdk/lib/webhook_auth');
await by('retell-sdk', 'retell', 'sign', async () => {
  const body = event({ event: 'call_ended', call: { call_id: 'c1' } });
  return { body, headers: { 'x-retell-signature': await retell.sign(body, SECRET) } };
});

const sanity = await import('@sanity/webhook');
await by('@sanity/webhook', 'sanity', 'encodeSignatureHeader', async () => {
  const body = event({ _id: 'doc' });
  const signature = await sanity.encodeSignatureHeader(body, ms, SECRET);
  return { body, headers: { 'sanity-webhook-signature': signature, 'idempotency-key': 'k1' } };
});

const adyen = await import('@adyen/api-library');
const adyenSecret = createHash('sha256').update(SECRET).digest('hex');
const Validator = adyen.hmacValidator;
await by('@adyen/api-library', 'adyen-platform', 'hmacValidator.calculateHmac', () => {
  const body = event({ type: 'balancePlatform.transfer.created', data: { id: 'T1' } });
  return { secret: adyenSecret, body, headers: { HmacSignature: new Validator().calculateHmac(body, adyenSecret), Protocol: 'HmacSHA256' } };
});
await by('@adyen/api-library', 'adyen-payments', 'hmacValidator.calculateHmac', () => {
  const item = {
    pspReference: '7914073381342284', originalReference: '', merchantAccountCode: 'TestMerchant', merchantReference: 'genuine',
    amount: { value: 1130, currency: 'EUR' }, eventCode: 'AUTHORISATION', eventDate: '2026-01-01T00:00:00+01:00', success: 'true',
    paymentMethod: 'visa', operations: [], reason: '', additionalData: {},
  };
  item.additionalData.hmacSignature = new Validator().calculateHmac(item, adyenSecret);
  return { secret: adyenSecret, body: JSON.stringify({ live: 'false', notificationItems: [{ NotificationRequestItem: item }] }) };
});

const { Signature: hubspot } = await import('@hubspot/api-client');
for (const [provider, hash] of [['hubspot-v1', 'v1'], ['hubspot-v2', 'v2'], ['hubspot-v3', 'v3']]) {
  await by('@hubspot/api-client', provider, `Signature.getSignature, ${hash}`, url => {
    const body = JSON.stringify([{ eventId: 1, subscriptionType: 'contact.creation', attemptNumber: attempt - 1, note: 'genuine' }]);
    const signature = hubspot.getSignature('POST', hash, { clientSecret: SECRET, url, requestBody: body, timestamp: ms });
    const headers = hash === 'v3'
      ? { 'X-HubSpot-Signature-v3': signature, 'X-HubSpot-Request-Timestamp': `${ms}` }
      : { 'X-HubSpot-Signature': signature, 'X-HubSpot-Signature-Version': hash };
    return { ...(hash === 'v1' ? {} : { url }), body, headers };
  });
}

const { default: Token } = await import('pusher/lib/token.js');
await by('pusher', 'pusher', 'Token.sign', () => {
  const body = event({ time_ms: ms, events: [{ name: 'channel_occupied' }] });
  return { body, headers: { 'X-Pusher-Key': 'key', 'X-Pusher-Signature': new Token('key', SECRET).sign(body) } };
});

const livekit = await import('livekit-server-sdk');
await by('livekit-server-sdk', 'livekit', 'AccessToken.toJwt', async () => {
  const body = event({ id: 'EV_1', event: 'room_started' });
  const token = new livekit.AccessToken('APIkey', SECRET, { ttl: 300 });
  token.sha256 = createHash('sha256').update(body).digest('base64');
  return { body, headers: { Authorization: await token.toJwt() } };
});

const { default: messagebird } = await import('messagebird/lib/signature.js');
await by('messagebird', 'messagebird', 'signature.generate', () => {
  const query = { recipient: '31612345678', id: 'm1', status: 'delivered' };
  const body = event({});
  const headers = { 'messagebird-request-timestamp': `${now}` };
  headers['messagebird-signature'] = messagebird.generate({ headers, query, body }, SECRET).toString('base64');
  return { query: form(query), body, headers };
});

console.log(JSON.stringify(deliveries));
