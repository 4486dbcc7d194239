// What every page of the console does: copy a receipt, ask before an act, and show how fast a session ended.

// The server may be below a path of its host.
const ROOT = new URL("..", import.meta.url).pathname.slice(0, -1);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button === null) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.textContent = "Copied";
});

function ask(text, label) {
  const dialog = document.createElement("dialog");
  const question = dialog.appendChild(document.createElement("p"));
  question.textContent = text;
  question.id = "question";
  dialog.setAttribute("aria-labelledby", question.id);
  const form = dialog.appendChild(document.createElement("form"));
  form.method = "dialog";
  form.className = "choices";
  for (const [value, name, style] of [["", "Cancel", "plain"], ["yes", label, "danger"]]) {
    const button = form.appendChild(document.createElement("button"));
    Object.assign(button, { value, textContent: name, className: style });
  }
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}

async function end(form) {
  const told = document.getElementById("ended");
  told.textContent = "Ending …";
  const answer = await fetch(form.action, { method: "POST", headers: { accept: "application/json" } });
  const body = await answer.json();
  if (answer.status === 401) {
    const again = body.type.endsWith("login-too-old") ? "&again=1" : "";
    location.assign(`${ROOT}/login?next=${encodeURIComponent(`/console${location.pathname.slice(ROOT.length)}`)}${again}`);
    return;
  }
  if (!answer.ok) {
    told.textContent = body.detail;
    return;
  }
  form.hidden = true;
  await renew(form.closest(".acts"));
  told.textContent = ended(body);
}

/** Show the page as it is now, and `kept` of it as it was. */
async function renew(kept) {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const now = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
  now.querySelector(".acts")?.remove();
  now.querySelector(".heading").after(kept);
  document.getElementById("main").replaceWith(now);
}

function ended({ position, recorded_ms, sockets, closed_ms }) {
  if (position === null) return "It had already ended.";
  const recorded = `Recorded at position ${position}, answered after ${recorded_ms} ms.`;
  if (sockets === 0) return `${recorded} It had no open socket.`;
  const which = sockets === 1 ? "Its socket" : `The last of its ${sockets} sockets`;
  return `${recorded} ${which} was closed ${closed_ms} ms after the end was decided.`;
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.dataset.asks === undefined) return;
  event.preventDefault();
  if (!(await ask(form.dataset.asks, form.querySelector("button").textContent))) return;
  if (form.action.endsWith("/end")) await end(form);
  else form.submit();
});
