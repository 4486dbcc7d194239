// Check an access token as other programs do: node verify.mjs URL TOKEN ISSUER AUDIENCE prints what each library reads in it.
import { createRemoteJWKSet, jwtVerify } from "jose";
import { allowInsecureRequests, validateJwtAccessToken } from "oauth4webapi";

const [url, token, issuer, audience] = process.argv.slice(2);
const keys = new URL("/.well-known/jwks.json", url);

const { payload, protectedHeader } = await jwtVerify(token, createRemoteJWKSet(keys), {
  issuer,
  audience,
  typ: "at+jwt",
  algorithms: ["ES256"],
  requiredClaims: ["sub", "client_id", "iat", "exp", "jti"],
});

const request = new Request(url, { headers: { authorization: `Bearer ${token}` } });
const server = { issuer, jwks_uri: keys.href };
const claims = await validateJwtAccessToken(server, request, audience, { [allowInsecureRequests]: true });

console.log(JSON.stringify({ header: protectedHeader, jose: payload, oauth4webapi: claims }));
