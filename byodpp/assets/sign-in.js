// Sign-in of the documentation by authorization code with PKCE. The token lives as long as the tab.
"use strict";

(() => {
  const byId = (name) => document.getElementById(name);
  const [button, dialog, form, tenant, says] =
    ["sign-in", "sign-in-dialog", "sign-in-form", "sign-in-tenant", "sign-in-says"].map(byId);
  const token = byId("token");
  const tell = (text) => { says.textContent = text; if (!dialog.open) dialog.showModal(); };
  const kept = (name) => { try { return JSON.parse(sessionStorage.getItem(name)); } catch { return null; } };
  const keep = (name, value) => sessionStorage.setItem(name, JSON.stringify(value));
  const fill = (text) => { token.value = text; token.dispatchEvent(new Event("input")); };
  const show = () => { button.textContent = kept("signed-in") && token.value ? "Sign out" : "Sign in"; };

  // --- there
  const encoded = (bytes) =>
    btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const random = () => encoded(crypto.getRandomValues(new Uint8Array(32)));
  const begin = async (name) => {
    const answer = await fetch(`/docs/sign-in/${encodeURIComponent(name)}`, { credentials: "omit" });
    if (answer.status === 404) throw new Error("There is no such tenant.");
    if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
    const way = await answer.json();
    if (new URL(way.redirectUri).origin !== location.origin) throw new Error(`Sign in at ${way.redirectUri}`);
    if (!crypto.subtle) throw new Error("This browser signs in only where the address is secure.");
    const verifier = random(), state = random();
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
    keep("sign-in", { way, verifier, state, back: location.pathname + location.hash });
    const query = new URLSearchParams({
      response_type: "code", client_id: way.clientId, redirect_uri: way.redirectUri, scope: "openid", state,
      code_challenge: encoded(new Uint8Array(digest)), code_challenge_method: "S256",
    });
    location.assign(`${way.authorization}?${query}`);
  };

  // --- and back
  const finish = async (query) => {
    const begun = kept("sign-in");
    sessionStorage.removeItem("sign-in");
    history.replaceState(null, "", location.pathname);  // a code in the address would be tried again
    if (!begun || begun.state !== query.get("state")) throw new Error("This sign-in was not begun here.");
    if (query.has("error")) throw new Error(query.get("error_description") ?? query.get("error"));
    if ((query.get("iss") ?? begun.way.issuer) !== begun.way.issuer) throw new Error("Somebody else answered.");
    const answer = await fetch(begun.way.token, {
      method: "POST", credentials: "omit",
      body: new URLSearchParams({
        grant_type: "authorization_code", client_id: begun.way.clientId, redirect_uri: begun.way.redirectUri,
        code: query.get("code") ?? "", code_verifier: begun.verifier,
      }),
    });
    const given = await answer.json();
    if (!answer.ok) throw new Error(given.error_description ?? `The sign-in answered ${answer.status}.`);
    keep("signed-in", { way: begun.way, hint: given.id_token });
    fill(given.access_token);
    if (begun.back !== location.pathname) location.replace(begun.back);
  };
  const leave = () => {
    const { way, hint } = kept("signed-in");
    sessionStorage.removeItem("signed-in");
    fill("");
    const query = new URLSearchParams({
      client_id: way.clientId, id_token_hint: hint, post_logout_redirect_uri: way.redirectUri,
    });
    location.assign(`${way.endSession}?${query}`);
  };

  button.addEventListener("click", () => {
    if (button.textContent === "Sign out") leave();
    else { says.textContent = ""; dialog.showModal(); tenant.focus(); }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    begin(tenant.value.trim()).catch((error) => tell(error.message));
  });
  token.addEventListener("input", show);
  button.hidden = false;
  show();
  const query = new URLSearchParams(location.search);
  if (query.has("state")) finish(query).catch((error) => tell(error.message)).finally(show);
})();
