// A certified identity provider as a process: its settings come as lines of JSON on standard input, the first at
// its start, each further one in the place of those before. It says `ready` with its issuer, and when that is done.
//
//   {"port": 0, "keys": [private JWKs], "algorithm": "RS256", "seconds": 600}
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import Provider from 'oidc-provider';

const FORMATS = { 'urn:counterfoil': 'jwt', 'urn:counterfoil:opaque': 'opaque' };

function provider(issuer, { keys, algorithm, seconds }) {
  const made = new Provider(issuer, {
    jwks: { keys },
    cookies: { keys: ['only-for-tests'] },
    clients: [
      {
        client_id: 'app',
        client_secret: 'app-secret',
        redirect_uris: ['https://app.example/cb'],
        grant_types: ['authorization_code', 'client_credentials'],
        id_token_signed_response_alg: algorithm,
      },
      {
        client_id: 'counterfoil',
        client_secret: 'introspection-secret',
        redirect_uris: [],
        response_types: [],
        grant_types: [],
        id_token_signed_response_alg: algorithm,
      },
    ],
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    extraTokenClaims: () => ({ groups: ['analysts'] }),
    ttl: { AccessToken: seconds, ClientCredentials: seconds },
    features: {
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:counterfoil',
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => ({
          scope: 'read',
          audience: 'counterfoil',
          accessTokenFormat: FORMATS[resource],
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
  });
  return made.callback();
}

let handle;
const server = createServer((request, response) => handle(request, response));
for await (const line of createInterface({ input: process.stdin })) {
  const settings = JSON.parse(line);
  if (!server.listening) {
    await new Promise((done) => { server.listen(settings.port, '127.0.0.1', done); });
  }
  const issuer = `http://127.0.0.1:${server.address().port}`;
  handle = provider(issuer, settings);
  process.stdout.write(`ready ${issuer}\n`);
}
process.exit(0);
