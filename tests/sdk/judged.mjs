// Asks the providers' own SDKs which deliveries they take, with keys of the tests' own:
//
//   node judged.mjs JUDGE < asked.json   prints true or false for each delivery
//
// To be run from a folder in which the SDKs are installed.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const load = createRequire(import.meta.url);

const judges = {
  async saleor({ keys }) {
    const { verifySignatureWithJwks } = await import('@saleor/app-sdk/auth');
    return async ({ headers, body }) => {
      await verifySignatureWithJwks(JSON.stringify(keys), headers['saleor-signature'], body);
      return true;
    };
  },

  async turnkey({ keys }) {
    const { verifyTurnkeyWebhookSignature } = await import('@turnkey/crypto');
    return ({ headers, body }) =>
      verifyTurnkeyWebhookSignature({ headers, body, verificationKeys: keys, maxTimestampAgeMs: 300_000 }).ok;
  },

  /** It asks eBay for a key by this function, and tells the console what it takes. */
  async ebay({ keys }) {
    load('event-notification-nodejs-sdk/lib/client.js').getPublicKey = async id => {
      if (!keys[id]) throw new Error(`${id} is not published`);
      return keys[id];
    };
    console.log = console.error = () => {};
    const { process: judge } = load('event-notification-nodejs-sdk');
    const config = { PRODUCTION: { clientId: 'id', clientSecret: 'secret' }, SANDBOX: {} };
    return async ({ headers, body }) => (await judge(JSON.parse(body), headers['x-ebay-signature'], config, 'PRODUCTION')) === 204;
  },
};

const say = console.log;
const { deliveries, ...given } = JSON.parse(readFileSync(0, 'utf8'));
const takes = await judges[process.argv[2]](given);
const told = [];
for (const delivery of deliveries) {
  try {
    told.push(await takes(delivery));
  } catch {
    told.push(false);
  }
}
say(JSON.stringify(told));
