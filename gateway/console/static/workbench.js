/* The workbench's editor: line numbers, marks under what is wrong, and the ways between a value,
   its rule and its place in the message. Everything works without it but the marks. */
"use strict";
(() => {
  const form = document.getElementById("editor");
  if (!form) return;
  const text = form.querySelector("textarea");
  const gutter = form.querySelector(".editor-gutter");
  const marks = form.querySelector(".editor-marks");
  const place = form.querySelector("[data-place]");
  const said = form.querySelector("[data-finding]");
  const path = form.elements.path.value;
  const LINE = 20;
  let findings = [];
  let ruled = Number(form.dataset.line) || 0;

  const lines = () => text.value.split("\n");

  const node = (name, classes, content) => {
    const made = document.createElement(name);
    if (classes) made.className = classes;
    made.textContent = content;
    return made;
  };

  const read = () => {
    findings = [...document.querySelectorAll("#check [data-here]")].map((each) => ({
      line: Number(each.dataset.line),
      column: Number(each.dataset.column),
      error: each.classList.contains("finding-error"),
      said: each.querySelector(".finding-said").textContent.trim(),
    }));
    const check = document.getElementById("check");
    const button = document.querySelector("[data-deploy]");
    const why = document.querySelector("[data-deploy-why]");
    if (!check || !button) return;
    document.getElementById("entries-outer").classList.toggle("behind", !check.dataset.loads);
    const errors = Number(check.dataset.errors);
    button.disabled = errors > 0 || !check.dataset.changes;
    why.textContent = errors ? "Mend the errors first." : check.dataset.changes ? "" : "Nothing is changed.";
  };

  const draw = () => {
    const byLine = new Map();
    for (const each of findings) {
      const known = byLine.get(each.line);
      if (!known || each.error) byLine.set(each.line, each);
    }
    const all = lines();
    gutter.replaceChildren(...all.flatMap((_, index) => {
      const found = byLine.get(index + 1);
      const classes = found ? (found.error ? "marked" : "marked warned") : index + 1 === ruled ? "ruled" : "";
      return [node("span", classes, String(index + 1)), "\n"];
    }));
    marks.replaceChildren(...all.flatMap((line, index) => {
      const found = byLine.get(index + 1);
      const holder = index + 1 === ruled ? node("span", "rule-line", "") : document.createDocumentFragment();
      if (!found) {
        holder.append(line || " ");
      } else {
        const start = Math.min(Math.max(found.column - 1, 0), Math.max(line.length - 1, 0));
        const token = line.slice(start).match(/^(?:"[^"]*"|'[^']*'|[^\s:,{}[\]]+|.)/);
        const end = start + (token ? token[0].length : 1);
        holder.append(line.slice(0, start),
          node("span", found.error ? "squiggle" : "squiggle squiggle-warning", line.slice(start, end) || " "),
          line.slice(end));
      }
      return [holder, "\n"];
    }));
    follow();
    caret();
  };

  const follow = () => {
    gutter.scrollTop = text.scrollTop;
    marks.scrollTop = text.scrollTop;
    marks.scrollLeft = text.scrollLeft;
  };

  const caret = () => {
    const before = text.value.slice(0, text.selectionStart).split("\n");
    const line = before.length;
    place.textContent = `Line ${line}, column ${before[line - 1].length + 1}`;
    const here = findings.filter((each) => each.line === line);
    said.textContent = here.map((each) => each.said).join(" ");
  };

  const jump = (line, focus) => {
    const all = lines();
    const wanted = Math.min(Math.max(line, 1), all.length);
    const start = all.slice(0, wanted - 1).reduce((sum, each) => sum + each.length + 1, 0);
    const found = findings.find((each) => each.line === wanted);
    const at = start + (found ? Math.min(found.column - 1, all[wanted - 1].length) : 0);
    text.setSelectionRange(at, at);
    text.scrollTop = Math.max((wanted - 6) * LINE, 0);
    if (focus) text.focus();
    follow();
    caret();
  };

  const light = () => {
    for (const each of document.querySelectorAll(".lit")) each.classList.remove("lit");
    const explained = document.getElementById("explained");
    let first = null;
    for (const each of explained.querySelectorAll("[data-lit]")) {
      const target = document.getElementById(each.dataset.lit);
      if (!target) continue;
      target.classList.add("lit");
      first = first || target;
    }
    if (first) {
      const box = first.closest(".source");
      if (box) box.scrollTop = Math.max(first.offsetTop - box.offsetTop - 60, 0);
    }
    const rule = [...explained.querySelectorAll("[data-file]")].find((each) => each.dataset.file === path);
    ruled = rule ? Number(rule.dataset.ruleLine) : 0;
    draw();
    if (ruled) jump(ruled, false);
  };

  const again = () => htmx.trigger(document.body, "read-again");

  text.addEventListener("input", () => {
    ruled = 0;
    findings = [];
    draw();
    htmx.trigger(form, "changed-text");
  });
  text.addEventListener("scroll", follow);
  for (const name of ["keyup", "click", "select"]) text.addEventListener(name, caret);
  form.addEventListener("submit", (event) => event.preventDefault());

  document.addEventListener("click", (event) => {
    const to = event.target.closest("[data-jump], [data-choose], [data-file], .value");
    if (!to) return;
    if (to.dataset.jump) {
      event.preventDefault();
      jump(Number(to.dataset.jump), true);
    } else if (to.dataset.choose) {
      const given = document.getElementById("given");
      given.elements.number.value = to.dataset.choose;
      given.elements.pasted.value = "";
      given.querySelector("details").open = false;
      htmx.trigger(given, "chosen");
    } else if (to.dataset.file === path) {
      event.preventDefault();
      ruled = Number(to.dataset.ruleLine);
      draw();
      jump(ruled, true);
    } else if (to.dataset.file) {
      const number = document.getElementById("number").value;
      if (number) to.href += `&message=${encodeURIComponent(number)}`;
    } else {
      for (const each of document.querySelectorAll(".value.asked")) each.classList.remove("asked");
      to.classList.add("asked");
    }
  });

  document.body.addEventListener("htmx:afterSettle", (event) => {
    const id = event.detail.elt.id;
    if (id === "check") {
      read();
      draw();
      if (document.getElementById("check").dataset.loads && document.querySelector("#message-body .bytes")) again();
    } else if (id === "message-body") {
      const shown = document.getElementById("message-body").dataset.shown || "";
      for (const each of document.querySelectorAll("[data-number]")) each.value = shown;
      again();
    } else if (id === "explained") {
      light();
    }
  });

  read();
  draw();
  if (ruled) jump(ruled, false);
})();
