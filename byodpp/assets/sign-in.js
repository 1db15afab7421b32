// Sign-in of the documentation by authorization code with PKCE. What it gives goes into cookies that no script reads.
"use strict";

(() => {
  const byId = (name) => document.getElementById(name);
  const [button, dialog, form, tenant, says] =
    ["sign-in", "sign-in-dialog", "sign-in-form", "sign-in-tenant", "sign-in-says"].map(byId);
  const token = byId("token"), pasted = token.placeholder;
  const tell = (text) => { says.textContent = text; if (!dialog.open) dialog.showModal(); };
  const kept = (name) => { try { return JSON.parse(sessionStorage.getItem(name)); } catch { return null; } };
  const keep = (name, value) => sessionStorage.setItem(name, JSON.stringify(value));
  const fill = (text) => { token.value = text; token.dispatchEvent(new Event("input")); };

  // --- the session: the page knows who it is of, until when, and the word that proves the page
  let session = null, timer = 0, waits = false;  // waits: there is one that cannot be had for the moment
  const known = {  // that there may be one: nobody else is asked for it
    get: () => { try { return localStorage.getItem("signed-in") !== null; } catch { return false; } },
    set: (is) => { try { if (is) localStorage.setItem("signed-in", "1"); else localStorage.removeItem("signed-in"); } catch { /* private */ } },
  };
  const show = () => {
    token.placeholder = session ? `${session.name ?? "You"} · ${session.tenant}` : pasted;
    token.labels[0].firstElementChild.textContent = session ? "Signed in" : "Token";
    button.textContent = waits ? "Try again" : session || (kept("signed-in") && token.value) ? "Sign out" : "Sign in";
  };
  const take = (found) => {
    session = found;
    waits = false;
    clearTimeout(timer);
    if (session?.renewable) {
      const left = Date.parse(session.expiresAt) - Date.now() - 60_000;
      timer = setTimeout(() => renew().catch(() => {}), Math.min(Math.max(left, 5_000), 2_000_000_000));
    }
    known.set(session !== null);
    show();
  };
  const asked = (path, options = {}) => {
    const proof = session && !["GET", "HEAD"].includes(options.method ?? "GET") ? { "X-CSRF-Token": session.csrfToken } : {};
    return fetch(path, { ...options, credentials: "same-origin", headers: { ...options.headers, ...proof } });
  };
  const taken = async (answer) => take((await answer.json()).data);
  const renewal = () => navigator.locks.request("session", async () => {  // pages of this browser, one after the other
    const answer = await asked("/session/renewal", { method: "POST" });
    if (answer.ok) await taken(answer);
    else if (answer.status === 401) take(null);
    return answer;
  });
  const renew = async () => (await renewal()).ok;
  const ask = async (path, options) => {
    const answer = await asked(path, options);
    return answer.status === 401 && session?.renewable && await renew() ? asked(path, options) : answer;
  };
  document.session = { get active() { return session !== null; }, ask };
  const found = async () => {
    const answer = await asked("/session");
    if (answer.ok) await taken(answer);
    return answer.status === 401 ? renewal() : answer;
  };
  const restore = async () => {  // only 401 says that it is over
    const why = await found().then((answer) => answer.ok || answer.status === 401 ? null : answer.status, (error) => error.message);
    if (why === null) return;
    waits = true;
    show();
    tell(`Your session could not be renewed (${why}). Try again in a moment, or sign in anew.`);
  };
  const open = async (given) => {
    const answer = await fetch("/session", {
      method: "POST", credentials: "same-origin",
      headers: { Authorization: `Bearer ${given.access_token}`, "Content-Type": "application/json" },
      body: JSON.stringify({ refreshToken: given.refresh_token ?? null }),
    });
    if (answer.ok) await taken(answer);
    return answer.ok;
  };

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
    if (!await open(given)) {  // no session can be had here: the token lives as long as the tab
      keep("signed-in", { way: begun.way, hint: given.id_token });
      fill(given.access_token);
    }
    if (begun.back !== location.pathname) location.replace(begun.back);
  };
  const leave = async () => {
    if (session) {
      const answer = await ask("/session", { method: "DELETE" });
      if (!answer.ok && answer.status !== 401) throw new Error(`The server answered ${answer.status}.`);
      take(null);
      return;
    }
    const { way, hint } = kept("signed-in");
    sessionStorage.removeItem("signed-in");
    fill("");
    const query = new URLSearchParams({
      client_id: way.clientId, id_token_hint: hint, post_logout_redirect_uri: way.redirectUri,
    });
    location.assign(`${way.endSession}?${query}`);
  };

  button.addEventListener("click", () => {
    if (waits) restore();
    else if (button.textContent === "Sign out") leave().catch((error) => tell(error.message));
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
  else if (known.get()) restore();
})();
