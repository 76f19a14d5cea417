// Signs as providers do whose keys are published, with a library that is not ours, and asks a provider's own SDK
// what it takes:
//
//   node published.mjs sign SECONDS            prints deliveries, and what is published for them
//   node published.mjs judge < messages.json   prints true or false for each message of SNS
//
// To be run from a folder in which the SDKs are installed.

import { createHash, generateKeyPairSync, sign as signWith } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import https from 'node:https';

const jose = await import('jose');

/** Keys of their own for each provider: one that is published, and one that is not. */
const pair = async (alg, kid) => {
  const { publicKey, privateKey } = await jose.generateKeyPair(alg, { extractable: true });
  const strange = await jose.generateKeyPair(alg, { extractable: true });
  return { alg, kid, key: privateKey, strange: strange.privateKey, jwk: { ...(await jose.exportJWK(publicKey)), kid, alg, use: 'sig' } };
};

const token = ({ alg, kid }, key, claims) => new jose.SignJWT(claims).setProtectedHeader({ alg, kid, typ: 'JWT' }).sign(key);
/** RFC 7797: the body itself, which the token leaves out. */
const detached = async ({ alg, kid }, key, body) => {
  const header = { alg, kid, b64: false, crit: ['b64'] };
  const { protected: first, signature } = await new jose.FlattenedSign(new TextEncoder().encode(body)).setProtectedHeader(header).sign(key);
  return `${first}..${signature}`;
};
const detachedEncoded = async ({ alg, kid }, key, body) => {
  const whole = await new jose.CompactSign(new TextEncoder().encode(body)).setProtectedHeader({ alg, kid }).sign(key);
  const [first, , signature] = whole.split('.');
  return `${first}..${signature}`;
};
const sha256 = text => createHash('sha256').update(text).digest('hex');

const sign = async now => {
  const body = JSON.stringify({ id: 'event-1', text: 'ünïcode', serviceUrl: 'https://smba.example/', notificationId: 'n', webhook_code: 'CODE', eventType: 'T', message: { messageId: 'm', data: 'e30=' } });
  const deliveries = [];
  const add = async (provider, keys, url, document, make) => {
    deliveries.push({
      provider,
      url,
      document: JSON.stringify(document),
      body,
      good: await make(keys.key, body),
      // Signed by a key that nobody publishes, under the name of one that is; and signed for something else.
      strange: await make(keys.strange, body),
      other: await make(keys.key, `${body} `),
    });
  };
  const claims = { iss: 'https://accounts.google.com', email: 'push@p.iam.gserviceaccount.com', email_verified: true, sub: '1', iat: now, exp: now + 3600 };
  const aud = 'https://gate.example/google-pubsub';
  const google = await pair('RS256', 'google-1');
  await add('google-pubsub', google, 'https://www.googleapis.com/oauth2/v3/certs', { keys: [google.jwk] }, async (key, text) => ({
    authorization: `Bearer ${await token(google, key, { ...claims, aud: text === body ? aud : 'https://other.example/' })}`,
  }));
  const plaid = await pair('ES256', 'bfbd5111-8e33-4643-8ced-b2e642a72f3c');
  const answer = { key: { ...plaid.jwk, created_at: now, expired_at: null }, request_id: 'r' };
  await add('plaid', plaid, 'https://production.plaid.com/webhook_verification_key/get', answer, async (key, text) => ({
    'plaid-verification': await token(plaid, key, { iat: now, request_body_sha256: sha256(text) }),
  }));
  const saleor = await pair('RS256', 'saleor-1');
  await add('saleor', saleor, 'https://api.github.com/.well-known/jwks.json', { keys: [saleor.jwk] }, async (key, text) => ({
    'saleor-signature': await detached(saleor, key, text),
    'saleor-event': 'order_created',
  }));
  const fireblocks = await pair('RS512', 'fireblocks-1');
  await add('fireblocks-v2', fireblocks, 'https://keys.fireblocks.io/.well-known/jwks.json', { keys: [fireblocks.jwk] }, async (key, text) => ({
    'fireblocks-webhook-signature': await detachedEncoded(fireblocks, key, text),
  }));
  const issuer = await pair('EdDSA', 'issuer-1');
  await add('issuer', issuer, 'https://issuer.example/jwks', { keys: [issuer.jwk] }, async (key, text) => ({
    authorization: `Bearer ${await token(issuer, key, { iss: 'https://issuer.example', aud: ['x', 'https://gate.example/'], digest: sha256(text), iat: now, exp: now + 60 })}`,
  }));
  // The body is the token.
  for (const [provider, kid, url, of] of [
    ['kinde', 'kinde-1', 'https://example.kinde.com/.well-known/jwks', n => ({ iss: 'https://example.kinde.com', event_id: `event_${n}`, type: 'user.updated' })],
    ['google-risc', 'google-1', 'https://www.googleapis.com/oauth2/v3/certs', n => ({ iss: 'https://accounts.google.com/', aud: ['1.apps.googleusercontent.com'], jti: `jti-${n}`, iat: now })],
  ]) {
    const keys = provider === 'google-risc' ? google : await pair('RS256', kid);
    const make = async (key, what) => ({ token: await token(keys, key, what) });
    const [good, strange] = [await make(keys.key, of(1)), await make(keys.strange, of(2))];
    const other = await make(keys.key, { ...of(3), iss: 'https://other.example' });
    deliveries.push({ provider, url, document: JSON.stringify({ keys: [keys.jwk] }), body: '', good, strange, other });
  }
  const bearer = async (provider, kid, url, said, wrong) => {
    const keys = await pair('RS256', kid);
    const make = async (key, text) => ({ authorization: `Bearer ${await token(keys, key, { iat: now, nbf: now, exp: now + 3600, ...said, ...(text === body ? {} : wrong) })}` });
    await add(provider, keys, url, { keys: [keys.jwk] }, make);
  };
  const tenant = '72f988bf-86f1-41af-91ab-2d7cd011db47';
  const eventGrid = { iss: `https://sts.windows.net/${tenant}/`, aud: 'api://us', appid: '4962773b-9cdb-44cf-a8bf-237846a00ab7' };
  await bearer('azure-event-grid', 'entra-1', `https://login.microsoftonline.com/${tenant}/discovery/v2.0/keys`, eventGrid, { appid: tenant });
  const bot = { iss: 'https://api.botframework.com', aud: '5b2d3b1c-8a55-4c1f-9d0e-0b9d2f5f3c11', serviceurl: 'https://smba.example/' };
  await bearer('bot-framework', 'bot-1', 'https://login.botframework.com/v1/.well-known/keys', bot, { serviceurl: 'https://evil.example/' });
  // Two tokens in the body, for one app; the second one is of the other form.
  const tracking = { aud: bot.aud, iat: now, exp: now + 3600 };
  const [old, current] = [
    { ...tracking, iss: `https://sts.windows.net/${tenant}/`, appid: '0bf30f3b-4a52-48df-9a82-234910c4a086' },
    { ...tracking, iss: `https://login.microsoftonline.com/${tenant}/v2.0`, azp: '0bf30f3b-4a52-48df-9a82-234910c4a086' },
  ];
  const rich = async (...tokens) => ({ token: JSON.stringify({ value: [{ changeType: 'created' }], validationTokens: await Promise.all(tokens) }) });
  const first = () => token(google, google.key, old);
  deliveries.push({
    provider: 'microsoft-graph-rich',
    url: 'https://login.microsoftonline.com/common/discovery/keys',
    document: JSON.stringify({ keys: [google.jwk] }),
    body: '',
    good: await rich(first(), token(google, google.key, current)),
    strange: await rich(first(), token(google, google.strange, current)),
    other: await rich(first(), token(google, google.key, { ...current, azp: tenant })),
  });
  const contact = await pair('RS256', 'contact-1');
  await add('constant-contact', contact, 'https://developer.constantcontact.com/.well-known/jwks.json', { keys: [contact.jwk] }, async (key, text) => ({
    'x-ctct-webhook-sig': await detached({ alg: 'RS256' }, key, text),
  }));
  // RSA with the older digest, over a field of a form.
  const travis = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const strange = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const payload = JSON.stringify({ id: 1, state: 'passed', message: 'ünïcode & +' });
  const signature = ({ privateKey }, text) => ({ signature: signWith('sha1', Buffer.from(text), privateKey).toString('base64'), 'content-type': 'application/x-www-form-urlencoded' });
  const config = { config: { notifications: { webhook: { public_key: travis.publicKey.export({ type: 'spki', format: 'pem' }) } } } };
  deliveries.push({
    provider: 'travis-ci',
    url: 'https://api.travis-ci.com/config',
    document: JSON.stringify(config),
    body: new URLSearchParams({ payload }).toString(),
    good: signature(travis, payload),
    strange: signature(strange, payload),
    other: signature(travis, `${payload} `),
  });
  return deliveries;
};

/** The validator of Amazon fetches the certificate: what it gets is what the message says beside it. */
const judge = async messages => {
  const { default: Validator } = await import('sns-validator');
  let pem;
  https.get = (_, answer) => {
    const response = Object.assign(new EventEmitter(), { statusCode: 200 });
    setImmediate(() => {
      answer(response);
      setImmediate(() => {
        response.emit('data', pem);
        response.emit('end');
      });
    });
    return new EventEmitter();
  };
  const told = [];
  for (const { message, certificate } of messages) {
    pem = certificate;
    told.push(await new Promise(resolve => new Validator().validate(message, error => resolve(!error))));
  }
  return told;
};

const [what, seconds] = process.argv.slice(2);
const said = what === 'sign' ? await sign(Number(seconds)) : await judge(JSON.parse(readFileSync(0, 'utf8')));
console.log(JSON.stringify(said));
