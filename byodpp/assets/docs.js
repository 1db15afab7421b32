// The documentation's script: finding, copying, trying, and the choice of theme. The pages are complete without it.
"use strict";

(() => {
  const root = document.documentElement;
  const byId = (name) => document.getElementById(name);
  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const kept = (store, name) => { try { return store.getItem(name); } catch { return null; } };
  const keep = (store, name, value) => { try { store.setItem(name, value); } catch { /* private window: not kept */ } };

  // --- theme
  const theme = kept(localStorage, "theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    keep(localStorage, "theme", root.dataset.theme);
  });

  // --- a token that is pasted lives as long as the tab
  const token = byId("token");
  token.value = kept(sessionStorage, "token") ?? "";
  token.addEventListener("input", () => keep(sessionStorage, "token", token.value.trim()));
  document.querySelector(".tools").hidden = false;

  // --- find
  const find = byId("find");
  const entries = [...document.querySelectorAll(".side li, .card")];
  const groups = [...document.querySelectorAll(".side section, .group")];
  const none = make("p", { className: "none", hidden: true, textContent: "Nothing is called that." });
  none.setAttribute("role", "status");
  byId("side").append(none);
  find.disabled = false;
  const sift = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const entry of entries) {
      const text = entry.textContent.toLowerCase();
      entry.hidden = !words.every((word) => text.includes(word));
    }
    for (const group of groups) group.hidden = !group.querySelector("li:not([hidden])");
    none.hidden = groups.some((group) => !group.hidden);
  };
  find.addEventListener("input", sift);
  find.addEventListener("keydown", (event) => {
    if (event.key === "Enter") document.querySelector(".side li:not([hidden]) a, .card:not([hidden]) a")?.click();
    if (event.key === "Escape") { find.value = ""; sift(); find.blur(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
    event.preventDefault();
    find.focus();
  });
  if (location.pathname !== "/docs") document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest" });

  // --- the first request goes where this page came from
  for (const code of document.querySelectorAll(".aside code")) {
    const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replace(/http:\/\/127\.0\.0\.1:3000/, location.origin);
  }

  // --- copy
  const copyButton = (figure) => {
    const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(figure.querySelector("code").textContent.replaceAll("$API", location.origin));
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    figure.querySelector("figcaption").append(button);
  };
  if (navigator.clipboard) document.querySelectorAll(".code").forEach(copyButton);

  // --- try it
  const pretty = (text) => { try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; } };
  const figure = (label, text) => {
    const found = make("figure", { className: "code" }, make("figcaption", { textContent: label }),
      make("pre", { tabIndex: 0 }, make("code", { textContent: text })));
    if (navigator.clipboard) copyButton(found);
    return found;
  };
  const address = (path, fields) => {
    const query = [];
    for (const { name, place, input } of fields) {
      if (place === "path") path = path.replace(`{${name}}`, encodeURIComponent(input.value));
      else if (input.value !== "") query.push(`${encodeURIComponent(name)}=${encodeURIComponent(input.value)}`);
    }
    return query.length ? `${path}?${query.join("&")}` : path;
  };
  const send = async (section, told, fields, body) => {
    const method = section.dataset.method.toUpperCase();
    const headers = { Accept: "application/json" };
    if (body) headers["Content-Type"] = told.mediaType;
    const options = { method, headers, body: body ? body.value : undefined, credentials: "omit" };
    if (token.value.trim()) headers.Authorization = `Bearer ${token.value.trim()}`;
    const ask = token.value.trim() || !document.session?.active ? fetch : document.session.ask;
    const begun = performance.now();
    const answer = await ask(address(section.dataset.path, fields), options);
    const text = await answer.text();
    const spent = Math.round(performance.now() - begun);
    const tag = answer.headers.get("etag");
    return figure(`${answer.status} ${answer.statusText} · ${spent} ms${tag ? ` · ETag ${tag}` : ""}`, pretty(text) || "No body.");
  };
  const build = (panel) => {
    const section = panel.closest(".op");
    const told = JSON.parse(panel.dataset.try);
    const form = make("form");
    const fields = told.parameters.map(({ name, in: place, value }) => {
      const input = make("input", { value, name, autocomplete: "off", spellcheck: false, required: place === "path" });
      form.append(make("label", {}, make("span", { textContent: name }), input));
      return { name, place, input };
    });
    let body = null;
    if (told.body !== null) {
      body = make("textarea", { value: told.body, spellcheck: false });
      body.setAttribute("aria-label", "Body");
      form.append(body);
    }
    const button = make("button", { type: "submit", textContent: "Send" });
    const answer = make("div");
    answer.setAttribute("aria-live", "polite");
    form.append(button);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        answer.replaceChildren(await send(section, told, fields, body));
      } catch (error) {
        answer.replaceChildren(figure("No answer", String(error)));
      } finally {
        button.disabled = false;
      }
    });
    panel.append(make("details", {}, make("summary", { textContent: "Try it" }), form, answer));
    panel.hidden = false;
  };
  document.querySelectorAll(".try").forEach(build);
})();
