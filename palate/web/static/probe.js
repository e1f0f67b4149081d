// A talk with the model under test: the rater tries to make it break the rule.
export class Probe {
  constructor(box, { api, project, answers, changed }) {
    Object.assign(this, { box, api, project, answers, changed });
    this.field = box.querySelector("textarea");
    this.button = box.querySelector("button");
    this.button.addEventListener("click", () => this.say());
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey) { event.preventDefault(); this.say(); }
    });
  }

  show(assignment) { this.assignment = assignment; this.#draw(); }

  async say() {
    const text = this.field.value.trim();
    if (!text || this.button.disabled) return;
    const dialogue = [...this.answers.dialogue, { role: "user", text }];
    this.button.disabled = true;
    this.button.textContent = "Waiting for the model";
    const asked = this.assignment;
    const { status, data } = await this.api.post(`/api/projects/${this.project}/assignments/${asked}/probe`, { dialogue });
    this.button.disabled = false;
    this.button.textContent = "Send";
    if (asked !== this.assignment) return;
    const words = this.box.querySelector(".hintline");
    words.textContent = status === 200 ? "" : data?.detail ?? "No connection; try again.";
    if (status !== 200) return;
    this.answers.dialogue = [...dialogue, { role: "assistant", text: data.text }];
    this.field.value = "";
    this.changed();
    this.#draw();
  }

  #draw() {
    const talk = document.getElementById("dialogue");
    if (!talk) return;
    talk.replaceChildren(...this.answers.dialogue.map(({ role, text }) => {
      const turn = document.createElement("div");
      const who = document.createElement("h3");
      const words = document.createElement("p");
      turn.className = `turn ${role}`;
      who.className = "who";
      who.textContent = role === "user" ? "You" : "Model";
      words.className = "prose pre";
      words.textContent = text;
      turn.append(who, words);
      return turn;
    }));
    talk.lastElementChild?.scrollIntoView({ block: "nearest" });
  }
}
