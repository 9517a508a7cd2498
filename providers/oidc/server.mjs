// The OpenID Connect provider that a recipe under test signs in at: one process, a realm for each run.
//
// It listens on two Unix sockets and on no network: people and apps come through the run's proxy to the one, Assay alone to the
// other, where realms are made and removed. It lives as long as the one connection that owns it (`GET /owner`), so nothing of it
// is left when its owner is killed. What it does for OpenID Connect is the package's (`oidc-provider`); ours are the realms, the
// page with a name and a password, and that any address of the app may be returned to.
import './runtime.mjs';

import { AsyncLocalStorage } from 'node:async_hooks';
import { createHash, generateKeyPairSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { rmSync } from 'node:fs';
import http from 'node:http';

import { Provider } from 'oidc-provider';
import packageOfProvider from 'oidc-provider/package.json' with { type: 'json' };

/** Longest body that is read, in bytes. */
const LONGEST = 64 << 10;
/** Lines that are kept of what happened in a realm. */
const LINES = 500;
/** Entries that are kept of a realm's sessions, codes and tokens. */
const ENTRIES = 10_000;
/** How long somebody may take to become the owner, in milliseconds. */
const OWNERLESS = 30_000;
const ID = /^[a-z0-9]{1,32}$/;

/** Realms by their id, which is the first part of the path. */
const realms = new Map();
/** How a client's request says who it is; the package wants that fixed for each client, and apps do either. */
const request = new AsyncLocalStorage();

function main() {
  const [app, admin] = process.argv.slice(2);
  if (!app || !admin) {
    console.error('usage: server.mjs APP_SOCKET ADMIN_SOCKET');
    process.exit(2);
  }
  let owner;
  const ownerless = setTimeout(() => {
    console.error('nobody owns it; ends');
    process.exit(3);
  }, OWNERLESS);
  const own = (response) => {
    if (owner) {
      return say(response, 409, { error: 'it has an owner already' });
    }
    owner = response;
    clearTimeout(ownerless);
    response.on('close', () => process.exit(0));
    response.writeHead(200, { 'content-type': 'application/json' });
    response.write(`${JSON.stringify({ version: packageOfProvider.version })}\n`);
  };
  listen(http.createServer(serve), app)
    .then(() => listen(http.createServer((incoming, response) => administer(incoming, response, own)), admin))
    .then(() => console.log(`ready ${packageOfProvider.version}`))
    .catch((error) => {
      console.error(error.message);
      process.exit(1);
    });
}

function listen(server, path) {
  rmSync(path, { force: true });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
}

/** What its owner asks: `PUT /realms/ID`, `DELETE /realms/ID`, which answers with what happened in it. */
async function administer(incoming, response, own) {
  const id = incoming.url.match(/^\/realms\/([^/]+)$/)?.[1];
  try {
    if (incoming.method === 'GET' && incoming.url === '/owner') {
      own(response);
    } else if (id && incoming.method === 'PUT') {
      makeRealm(id, JSON.parse(await body(incoming)));
      say(response, 201, {});
    } else if (id && incoming.method === 'DELETE') {
      const realm = realms.get(id);
      realms.delete(id);
      say(response, realm ? 200 : 404, realm ? { log: realm.log } : { error: 'there is no such realm' });
    } else {
      say(response, 404, { error: 'there is no such thing' });
    }
  } catch (error) {
    say(response, 400, { error: error.message });
  }
}

/** What people and apps ask, through the proxy. */
async function serve(incoming, response) {
  const [, id, rest] = incoming.url.match(/^\/([a-z0-9]+)(\/.*)$/) ?? [];
  const realm = realms.get(id);
  if (!realm) {
    return page(response, 404, 'There is no such realm', '<p>The run that it was made for may be over.</p>');
  }
  // The package works out where it is mounted from the difference between the two.
  incoming.originalUrl = incoming.url;
  incoming.url = rest;
  const path = rest.split('?')[0];
  const basic = /^basic /i.test(incoming.headers.authorization ?? '');
  response.on('finish', () => realm.tell(`${incoming.method} ${path} ${response.statusCode}`));
  try {
    if (path.startsWith('/interaction/')) {
      await interact(realm, incoming, response);
    } else {
      await request.run({ basic }, () => realm.handle(incoming, response));
    }
  } catch (error) {
    realm.tell(`${incoming.method} ${path}: ${error.message}`);
    if (!response.headersSent) {
      page(response, 400, 'This did not work', `<p>${escape(error.message)}</p>`);
    }
  }
}

/**
 * A realm: one issuer, one client, one user. `asked` has `issuer`, `origin` (the app's, below which it may be returned to),
 * `client_id`, `client_secret`, `username`, `password`, `name`, `email`.
 */
function makeRealm(id, asked) {
  if (!ID.test(id)) {
    throw new Error('a realm is called by small letters and digits');
  }
  if (realms.has(id)) {
    throw new Error('there is such a realm already');
  }
  for (const key of ['issuer', 'origin', 'client_id', 'client_secret', 'username', 'password', 'name', 'email']) {
    if (typeof asked?.[key] !== 'string' || asked[key] === '') {
      throw new Error(`\`${key}\` is missing`);
    }
  }
  const { origin } = new URL(asked.origin);
  const log = [];
  const tell = (line) => {
    log.push(line.slice(0, 500));
    if (log.length > LINES) {
      log.shift();
    }
  };
  const provider = new Provider(asked.issuer, configuration(id, asked, origin));
  // Behind a proxy that ends TLS and says what was asked.
  provider.proxy = true;
  const returnsToApp = (address) => URL.canParse(address) && new URL(address).origin === origin;
  provider.Client.prototype.redirectUriAllowed = returnsToApp;
  provider.Client.prototype.postLogoutRedirectUriAllowed = returnsToApp;
  const find = provider.Client.find.bind(provider.Client);
  provider.Client.find = async (...which) => {
    const client = await find(...which);
    const { basic } = request.getStore() ?? {};
    if (client && basic !== undefined) {
      const value = basic ? 'client_secret_basic' : 'client_secret_post';
      Object.defineProperty(client, 'clientAuthMethod', { configurable: true, value });
    }
    return client;
  };
  const told = (_, error) => tell(`${error.error ?? 'error'}: ${error.error_description ?? error.message}`);
  for (const event of ['authorization.error', 'grant.error', 'userinfo.error', 'end_session.error', 'server_error']) {
    provider.on(event, told);
  }
  realms.set(id, { provider, asked, log, tell, handle: provider.callback() });
}

function configuration(id, asked, origin) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return {
    adapter: adapter(),
    clients: [{
      client_id: asked.client_id,
      client_secret: asked.client_secret,
      // One has to be named. Which ones are taken is said above.
      redirect_uris: [`${origin}/`],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
    }],
    claims: { openid: ['sub'], profile: ['name', 'preferred_username', 'given_name', 'family_name'], email: ['email', 'email_verified'] },
    // Many apps read nothing but the token.
    conformIdTokenClaims: false,
    cookies: { keys: [randomBytes(32).toString('hex')] },
    features: { devInteractions: { enabled: false }, introspection: { enabled: true }, revocation: { enabled: true } },
    findAccount: (_, sub) => sub === asked.username && ({
      accountId: sub,
      claims: () => ({
        sub,
        name: asked.name,
        preferred_username: sub,
        given_name: asked.name.split(' ')[0],
        family_name: asked.name.split(' ').slice(1).join(' '),
        email: asked.email,
        email_verified: true,
      }),
    }),
    interactions: { url: (_, interaction) => `/${id}/interaction/${interaction.uid}` },
    // `offline_access` is for those who ask for consent anew each time; nobody does here.
    issueRefreshToken: async (_, client) => client.grantTypeAllowed('refresh_token'),
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig' }] },
    // Nobody is asked whether the app may know: it is the operator's own.
    loadExistingGrant: consented,
    // An app without PKCE is not wrong; one that uses it has it checked.
    pkce: { required: () => false },
    renderError: (ctx, out) => {
      ctx.type = 'html';
      ctx.body = document('This did not work', `<p>${escape(out.error)}: ${escape(out.error_description ?? '')}</p>`);
    },
    scopes: ['openid', 'offline_access', 'profile', 'email'],
    ttl: { AccessToken: 3600, AuthorizationCode: 60, Grant: 86_400, IdToken: 3600, Interaction: 3600, RefreshToken: 86_400, Session: 86_400 },
  };
}

async function consented(ctx) {
  const { client, session, provider } = ctx.oidc;
  const known = ctx.oidc.result?.consent?.grantId ?? session.grantIdFor(client.clientId);
  if (known) {
    return provider.Grant.find(known);
  }
  const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  grant.addOIDCScope('openid offline_access profile email');
  await grant.save();
  return grant;
}

/** The page with a name and a password. */
async function interact(realm, incoming, response) {
  const { prompt } = await realm.provider.interactionDetails(incoming, response);
  if (prompt.name !== 'login') {
    throw new Error(`the provider asks for ${prompt.name}, and there is no page for that`);
  }
  if (incoming.method !== 'POST') {
    return login(response, 200, '');
  }
  const form = new URLSearchParams(await body(incoming));
  const { username, password } = realm.asked;
  if (!same(form.get('username'), username) || !same(form.get('password'), password)) {
    realm.tell('a sign-in with a wrong name or password');
    return login(response, 401, '<p id="error">Name or password is wrong.</p>');
  }
  const result = { login: { accountId: username } };
  await realm.provider.interactionFinished(incoming, response, result, { mergeWithLastSubmission: false });
}

function login(response, status, message) {
  page(response, status, 'Sign in', `${message}
<form method="post" autocomplete="off">
<p><label>Name <input name="username" id="username" autofocus required></label></p>
<p><label>Password <input name="password" id="password" type="password" required></label></p>
<p><button type="submit" id="submit">Sign in</button></p>
</form>`);
}

function page(response, status, title, content) {
  const headers = {
    'cache-control': 'no-store',
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    'content-type': 'text/html; charset=utf-8',
  };
  response.writeHead(status, headers).end(document(title, content));
}

function document(title, content) {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>${title}</title>
<style>body { font: 1rem/1.5 sans-serif; margin: 4rem auto; max-width: 24rem }</style>
<h1>${title}</h1>
${content}
</html>
`;
}

function say(response, status, content) {
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(content)}\n`);
}

async function body(incoming) {
  const parts = [];
  let length = 0;
  for await (const part of incoming) {
    length += part.length;
    if (length > LONGEST) {
      throw new Error('that is too long');
    }
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

function escape(text) {
  return String(text).replace(/[&<>"']/g, (found) => `&#${found.charCodeAt(0)};`);
}

/** Compares in a time that tells nothing. */
function same(given, known) {
  const digest = (text) => createHash('sha256').update(String(text)).digest();
  return timingSafeEqual(digest(given), digest(known));
}

/** Keeps a realm's sessions, codes and tokens; they go with the realm. */
function adapter() {
  const entries = new Map();
  const gone = (entry) => !entry || (entry.until && entry.until < Date.now());
  const first = (model, matches) => [...entries.values()].find((entry) => entry.model === model && !gone(entry) && matches(entry.payload))?.payload;
  return class {
    constructor(model) {
      this.model = model;
    }

    async upsert(id, payload, expiresIn) {
      // The oldest goes; a realm is used by one run.
      if (entries.size >= ENTRIES) {
        entries.delete(entries.keys().next().value);
      }
      const until = expiresIn ? Date.now() + expiresIn * 1000 : undefined;
      entries.set(`${this.model}:${id}`, { model: this.model, payload, until });
    }

    async find(id) {
      const entry = entries.get(`${this.model}:${id}`);
      return gone(entry) ? undefined : entry.payload;
    }

    async findByUid(uid) {
      return first(this.model, (payload) => payload.uid === uid);
    }

    async findByUserCode(userCode) {
      return first(this.model, (payload) => payload.userCode === userCode);
    }

    async consume(id) {
      const payload = await this.find(id);
      if (payload) {
        payload.consumed = Math.floor(Date.now() / 1000);
      }
    }

    async destroy(id) {
      entries.delete(`${this.model}:${id}`);
    }

    async revokeByGrantId(grantId) {
      for (const [key, entry] of entries) {
        if (entry.payload.grantId === grantId) {
          entries.delete(key);
        }
      }
    }
  };
}

main();
