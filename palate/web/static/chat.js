// A chat with the served model. With two answers, the reader says which is better, and the better one goes on in the conversation.
const at = (id) => document.getElementById(id);
const form = at("ask");
const conversation = [];
let pending = null; // the id and the texts of two answers that wait for a verdict

function headers() {
  const key = at("key")?.value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

function show(role, text) {
  const item = document.createElement("li");
  item.className = role;
  item.dir = "auto";
  item.textContent = text;
  at("turns").append(item);
  item.scrollIntoView({ block: "nearest" });
  return item;
}

function say(text) {
  at("said").textContent = text;
  at("said").hidden = !text;
}

async function post(path, body) {
  const response = await fetch(path, { method: "POST", headers: headers(), body: JSON.stringify(body) });
  if (!response.ok) throw new Error((await response.json().catch(() => null))?.error?.message ?? `The server answered ${response.status}.`);
  return response;
}

// Calls `onText(index, text)` with more text of each answer, and returns the id of the answers.
async function stream(body, onText) {
  const response = await post("/v1/chat/completions", { ...body, stream: true });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let id = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("The answer broke off. Send the message again.");
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return id;
      const part = JSON.parse(data);
      if (part.error) throw new Error(part.error.message);
      id = part.id;
      for (const choice of part.choices) onText(choice.index, choice.delta.content ?? "");
    }
  }
}

function take(text) {
  conversation.push({ role: "assistant", content: text });
  form.querySelector("[type=submit]").disabled = false;
  at("question").focus();
}

async function ask(question) {
  const isBoth = at("both")?.checked ?? false;
  conversation.push({ role: "user", content: question });
  const asked = show("user", question);
  const places = isBoth ? [at("left"), at("right")] : [show("assistant", "")];
  const texts = places.map(() => "");
  for (const place of places) place.textContent = "";
  at("two").hidden = !isBoth;
  for (const button of at("two").querySelectorAll("button")) button.disabled = true;
  try {
    const body = { model: form.dataset.model, messages: conversation, n: places.length };
    const id = await stream(body, (index, text) => { texts[index] += text; places[index].textContent = texts[index]; });
    if (!isBoth) { take(texts[0]); return; }
    pending = { id, texts };
    for (const button of at("two").querySelectorAll("button")) button.disabled = false;
  } catch (error) {
    say(error.message);
    conversation.pop();
    asked.remove();
    if (!isBoth) places[0].remove();
    at("two").hidden = true;
    at("question").value = question;
    form.querySelector("[type=submit]").disabled = false;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const question = at("question").value.trim();
  if (!question) return;
  say("");
  at("question").value = "";
  form.querySelector("[type=submit]").disabled = true;
  ask(question);
});

at("two").addEventListener("click", async (event) => {
  const verdict = event.target.dataset?.verdict;
  if (verdict === undefined || !pending) return;
  const { id, texts } = pending;
  const better = verdict === "same" ? 0 : Number(verdict);
  for (const button of at("two").querySelectorAll("button")) button.disabled = true;
  try {
    if (verdict !== "same") {
      const value = { chosen: better, rejected: 1 - better };
      await post("/feedback", { inference_id: id, metric_name: "comparison", value, idempotency_key: `${id}-comparison` });
    }
    pending = null;
    at("two").hidden = true;
    show("assistant", texts[better]);
    take(texts[better]);
  } catch (error) {
    say(error.message);
    for (const button of at("two").querySelectorAll("button")) button.disabled = false;
  }
});
