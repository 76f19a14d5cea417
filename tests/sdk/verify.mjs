// Asks each provider's own SDK whether it takes a delivery, as of one moment:
//
//   node verify.mjs SECONDS < deliveries.json
//
// To be run from a folder in which the SDKs are installed. Prints a JSON list of true and false.

import { createSecretKey } from 'node:crypto';
import { readFileSync } from 'node:fs';

import { validateSignature } from '@line/bot-sdk';
import { verify as github } from '@octokit/webhooks-methods';
import { Paddle } from '@paddle/paddle-node-sdk';
import mailersend from 'mailersend/lib/services/mailersend.utils.js';
import { WebhookSignatureValidator } from 'mercadopago';
import messagebird from 'messagebird/lib/webhook-signature-jwt.js';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import Stripe from 'stripe';
import { Webhook as Svix } from 'svix';
import twilio from 'twilio';

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

/** Each answers with true or false, or throws for false. */
const judges = {
  'bird-messagebird': ({ secret, url, headers, body }) =>
    messagebird.verify(url, Buffer.from(body), headers['messagebird-signature-jwt'], createSecretKey(Buffer.from(secret))),
  github: ({ secret, headers, body }) => github(secret, body, headers['x-hub-signature-256']),
  line: ({ secret, headers, body }) => validateSignature(body, secret, headers['x-line-signature']),
  mailersend: ({ secret, headers, body }) => mailersend.MailerSendUtils.verifyWebHook(Buffer.from(body), headers.signature, secret),
  'mercado-pago': ({ secret, query, headers }) =>
    WebhookSignatureValidator.validate({
      xSignature: headers['x-signature'],
      xRequestId: headers['x-request-id'],
      dataId: new URLSearchParams(query).get('data.id'),
      secret,
    }) ?? true,
  paddle: ({ secret, headers, body }) => new Paddle('none').webhooks.isSignatureValid(body, secret, headers['paddle-signature']),
  'standard-webhooks': ({ secret, headers, body }) => new StandardWebhook(secret).verify(body, headers),
  stripe: ({ secret, headers, body }) => new Stripe('sk_test_none').webhooks.constructEvent(body, headers['stripe-signature'], secret),
  svix: ({ secret, headers, body }) => new Svix(secret).verify(body, headers),
  twilio: ({ secret, url, headers, body }) =>
    twilio.validateRequest(secret, headers['x-twilio-signature'], url, Object.fromEntries(new URLSearchParams(body))),
};

const answers = [];
for (const delivery of JSON.parse(readFileSync(0))) {
  try {
    answers.push(Boolean(await judges[delivery.provider](delivery)));
  } catch (error) {
    console.error(`${delivery.provider}: ${error.message}`);
    answers.push(false);
  }
}
console.log(JSON.stringify(answers));
