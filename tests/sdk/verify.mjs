// Asks each provider's own SDK whether it takes a delivery, as of one moment:
//
//   node verify.mjs SECONDS < deliveries.json
//
// To be run from a folder in which the SDKs are installed. Prints a JSON list of true and false.

import { createSecretKey } from 'node:crypto';
import { readFileSync } from 'node:fs';

// Paddle's SDK allows five seconds, which loading them all may take.
const ms = Number(process.argv[2]) * 1000;
globalThis.Date = class extends Date {
  constructor(...time) {
    super(...(time.length ? time : [ms]));
  }
  static now() {
    return ms;
  }
};

const imported = async (name, member = 'default') => (await import(name))[member];
const parameters = text => Object.fromEntries(new URLSearchParams(text));
/** What a form with several parts holds, part by part. */
const parts = async ({ headers, body }) => new Response(body, { headers: { 'content-type': headers['content-type'] } }).formData();

/** Each answers with true or false, or throws for false. */
const judges = {
  '@adyen/api-library': async ({ secret, headers, body }) =>
    new (await imported('@adyen/api-library', 'hmacValidator'))().validateHMACSignature(secret, headers.hmacsignature, body),
  '@anthropic-ai/sdk': async ({ secret, headers, body }) =>
    new (await imported('@anthropic-ai/sdk'))({ apiKey: 'none' }).beta.webhooks.unwrap(body, { headers, key: secret }),
  '@clerk/backend': async ({ secret, url, headers, body }) =>
    (await imported('@clerk/backend/webhooks', 'verifyWebhook'))(new Request(url, { method: 'POST', headers, body }), { signingSecret: secret }),
  '@contentful/node-apps-toolkit': async ({ secret, url, query, headers, body }) => {
    const path = `${new URL(url).pathname}?${query}`;
    return (await imported('@contentful/node-apps-toolkit', 'verifyRequest'))(secret, { method: 'POST', path, headers, body });
  },
  '@easypost/api': async ({ secret, headers, body }) =>
    new (await imported('@easypost/api'))('none').Utils.validateWebhook(Buffer.from(body), headers, secret),
  '@hubspot/api-client': async ({ secret, url, headers, body }) =>
    (await imported('@hubspot/api-client', 'Signature')).isValid({
      signature: headers['x-hubspot-signature-v3'],
      signatureVersion: 'v3',
      method: 'POST',
      clientSecret: secret,
      url,
      requestBody: body,
      timestamp: Number(headers['x-hubspot-request-timestamp']),
    }),
  '@hygraph/utils': async ({ secret, headers, body }) =>
    (await imported('@hygraph/utils')).verifyWebhookSignature({ rawPayload: body, signature: headers['gcms-signature'], secret }),
  '@line/bot-sdk': async ({ secret, headers, body }) =>
    (await imported('@line/bot-sdk', 'validateSignature'))(body, secret, headers['x-line-signature']),
  '@linear/sdk': async ({ secret, headers, body }) =>
    new (await imported('@linear/sdk/webhooks', 'LinearWebhookClient'))(secret).verify(Buffer.from(body), headers['linear-signature']),
  '@mux/mux-node': async ({ secret, headers, body }) =>
    new (await imported('@mux/mux-node'))({ tokenId: 'none', tokenSecret: 'none' }).webhooks.unwrap(body, headers, secret),
  '@notionhq/client': async ({ secret, headers, body }) =>
    (await imported('@notionhq/client', 'verifyWebhookSignature'))({ body, signature: headers['x-notion-signature'], verificationToken: secret }),
  '@octokit/webhooks-methods': async ({ secret, headers, body }) =>
    (await imported('@octokit/webhooks-methods', 'verify'))(secret, body, headers['x-hub-signature-256']),
  '@onfido/api': async ({ secret, headers, body }) =>
    new (await imported('@onfido/api', 'WebhookEventVerifier'))(secret).readPayload(body, headers['x-sha2-signature']),
  '@paddle/paddle-node-sdk': async ({ secret, headers, body }) =>
    new (await imported('@paddle/paddle-node-sdk', 'Paddle'))('none').webhooks.isSignatureValid(body, secret, headers['paddle-signature']),
  '@polar-sh/sdk': async ({ secret, headers, body }) => (await imported('@polar-sh/sdk/2026-10', 'webhooks')).validateEvent(body, headers, secret),
  '@sanity/webhook': async ({ secret, headers, body }) =>
    (await imported('@sanity/webhook', 'isValidSignature'))(body, headers['sanity-webhook-signature'], secret),
  '@scalekit-sdk/node': async ({ provider, secret, headers, body }) => {
    const client = new (await imported('@scalekit-sdk/node', 'ScalekitClient'))('https://none.example', 'none', 'none');
    return provider === 'scalekit' ? client.verifyWebhookPayload(secret, headers, body) : client.verifyInterceptorPayload(secret, headers, body);
  },
  '@shopify/shopify-api': async ({ secret, headers, body }) => {
    await import('@shopify/shopify-api/adapters/node');
    const { shopifyApi } = await import('@shopify/shopify-api');
    const logger = { log: () => {} };
    const app = { apiKey: 'none', apiSecretKey: secret, apiVersion: '2026-10', hostName: 'a.example', isEmbeddedApp: false, logger };
    const more = { domain: 'a.myshopify.com', 'shop-domain': 'a.myshopify.com', 'api-version': '2026-10', topic: 'orders/create' };
    const others = Object.fromEntries(Object.entries(more).flatMap(([name, value]) => [[`x-shopify-${name}`, value], [`shopify-${name}`, value]]));
    return (await shopifyApi(app).webhooks.validate({ rawBody: body, rawRequest: { headers: { ...others, ...headers } }, rawResponse: {} })).valid;
  },
  '@transloadit/utils': async delivery => {
    const fields = await parts(delivery);
    return (await imported('@transloadit/utils', 'verifyWebhookSignature'))({
      rawBody: fields.get('transloadit'),
      signatureHeader: fields.get('signature'),
      authSecret: delivery.secret,
    });
  },
  '@tryfinch/finch-api': async ({ secret, headers, body }) =>
    new (await imported('@tryfinch/finch-api'))({ accessToken: 'none' }).webhooks.unwrap(body, headers, secret),
  // It leaves it to the receiver to compare the body's digest.
  '@vonage/jwt': async ({ secret, headers }) =>
    (await imported('@vonage/jwt', 'verifySignature'))(headers.authorization.replace('Bearer ', ''), secret),
  '@whop/sdk': async ({ secret, headers, body }) =>
    new (await imported('@whop/sdk'))({ apiKey: 'none', webhookKey: secret }).webhooks.unwrap(body, { headers, key: secret }),
  '@workos-inc/node': async ({ secret, headers, body }) =>
    new (await imported('@workos-inc/node', 'WorkOS'))('sk_none').webhooks.verifyHeader({
      payload: JSON.parse(body),
      sigHeader: headers['workos-signature'],
      secret,
    }),
  'cloudinary': async ({ secret, headers, body }) => {
    const { v2: cloudinary } = await imported('cloudinary');
    cloudinary.config({ api_secret: secret, signature_algorithm: 'sha256' });
    return cloudinary.utils.verifyNotificationSignature(body, Number(headers['x-cld-timestamp']), headers['x-cld-signature']);
  },
  'coinbase-commerce-node': async ({ secret, headers, body }) =>
    (await imported('coinbase-commerce-node')).Webhook.verifySigHeader(body, headers['x-cc-webhook-signature'], secret),
  'connect-sdk-nodejs': async ({ secret, headers, body }) => {
    const { webhooks } = await imported('connect-sdk-nodejs');
    webhooks.inMemorySecretKeyStore.storeSecretKey('key', secret);
    return webhooks.v1.init(webhooks.inMemorySecretKeyStore).unmarshal(body, { ...headers, 'x-gcs-keyid': 'key' });
  },
  'crisp-api': async ({ secret, headers, body }) => {
    const client = new (await imported('crisp-api')).Crisp();
    const [time, signature] = [headers['x-crisp-request-timestamp'], headers['x-crisp-signature']];
    return client.verifyWidget(secret, JSON.parse(body), Number(time), signature);
  },
  'dodopayments': async ({ secret, headers, body }) =>
    new (await imported('dodopayments'))({ bearerToken: 'none' }).webhooks.unwrap(body, { headers, key: secret }),
  'gocardless-nodejs': async ({ secret, headers, body }) =>
    (await imported('gocardless-nodejs', 'verifySignature'))(body, secret, headers['webhook-signature']) ?? true,
  // It compares the issuer with the API key, which is no part of the secret: there is none here.
  'livekit-server-sdk': async ({ secret, headers, body }) =>
    new (await imported('livekit-server-sdk', 'WebhookReceiver'))(undefined, secret).receive(body, headers.authorization),
  'lithic': async ({ secret, headers, body }) => new (await imported('lithic'))({ apiKey: 'none' }).webhooks.parse(body, { headers, secret }),
  'mailersend': async ({ secret, headers, body }) =>
    (await imported('mailersend/lib/services/mailersend.utils.js')).MailerSendUtils.verifyWebHook(Buffer.from(body), headers.signature, secret),
  'mailtrap': async ({ secret, headers, body }) =>
    (await imported('mailtrap')).verifyWebhookSignature(body, headers['mailtrap-signature'], secret),
  'mercadopago': async ({ secret, query, headers }) =>
    (await imported('mercadopago', 'WebhookSignatureValidator')).validate({
      xSignature: headers['x-signature'],
      xRequestId: headers['x-request-id'],
      dataId: parameters(query)['data.id'],
      secret,
    }) ?? true,
  'messagebird': async ({ provider, secret, url, query, headers, body }) => {
    if (provider === 'bird-messagebird') {
      const jwt = await imported('messagebird/lib/webhook-signature-jwt.js');
      return jwt.verify(url, Buffer.from(body), headers['messagebird-signature-jwt'], createSecretKey(Buffer.from(secret)));
    }
    const signature = await imported('messagebird/lib/signature.js');
    const made = signature.generate({ headers, query: parameters(query), body }, secret);
    return made.toString('base64') === headers['messagebird-signature'];
  },
  'openai': async ({ secret, headers, body }) => new (await imported('openai'))({ apiKey: 'none' }).webhooks.unwrap(body, headers, secret),
  'orb-billing': async ({ secret, headers, body }) => new (await imported('orb-billing'))({ apiKey: 'none' }).webhooks.unwrap(body, headers, secret),
  'pusher': async ({ secret, headers, body }) => {
    const pusher = new (await imported('pusher'))({ appId: '1', key: 'key', secret });
    return pusher.webhook({ headers: { ...headers, 'x-pusher-key': 'key', 'content-type': 'application/json' }, rawBody: body }).isValid();
  },
  'replicate': async ({ secret, headers, body }) => (await imported('replicate', 'validateWebhook'))({ headers, body }, secret),
  'resend': async ({ secret, headers, body }) => {
    const [id, timestamp, signature] = ['id', 'timestamp', 'signature'].map(name => headers[`svix-${name}`]);
    const resend = new (await imported('resend', 'Resend'))('re_none');
    return resend.webhooks.verify({ payload: body, headers: { id, timestamp, signature }, webhookSecret: secret });
  },
  'retell-sdk': async ({ secret, headers, body }) =>
    (await imported('retell-sdk/lib/webhook_auth', 'verify'))(body, secret, headers['x-retell-signature']),
  'standardwebhooks': async ({ secret, headers, body }) => new (await imported('standardwebhooks', 'Webhook'))(secret).verify(body, headers),
  'stream-chat': async ({ secret, headers, body }) =>
    (await imported('stream-chat')).StreamChat.getInstance('none', secret).verifyWebhook(body, headers['x-signature']),
  'stripe': async ({ secret, headers, body }) =>
    new (await imported('stripe'))('sk_test_none').webhooks.constructEvent(body, headers['stripe-signature'], secret),
  'svix': async ({ secret, headers, body }) => new (await imported('svix', 'Webhook'))(secret).verify(body, headers),
  'twilio': async ({ secret, url, headers, body }) =>
    (await imported('twilio')).validateRequest(secret, headers['x-twilio-signature'], url, parameters(body)),
  'webflow-api': async ({ secret, headers, body }) =>
    new (await imported('webflow-api', 'WebflowClient'))({ accessToken: 'none' }).webhooks.verifySignature({ headers, body, secret }),
};

const answers = [];
for (const delivery of JSON.parse(readFileSync(0))) {
  try {
    answers.push(Boolean(await judges[delivery.sdk](delivery)));
  } catch (error) {
    console.error(`${delivery.sdk}: ${error.message}`);
    answers.push(false);
  }
}
console.log(JSON.stringify(answers));
